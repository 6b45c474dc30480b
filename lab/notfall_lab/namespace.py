"""A small LAN of network namespaces: the server's machine, a router, and any number of hosts.

::

    router .254 ---veth---+
                          |
    host   .x   ---veth---+-- bridge lan0 (server, .1) --- taps of virtual machines

Lab ``net`` N uses 10.77.N.0/24 and fd77:N::/64; labs with different names and nets live side by
side. Namespaces are called ``nf-LAB-HOST``. What a crashed lab of the same name left is removed
first. Nothing of it reaches a real network.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

BRIDGE = "lan0"
SERVER, ROUTER = "server", "router"


def sh(*arguments: str | Path, ok: Sequence[int] = (0,)) -> str:
    """Run a command of the lab; what it printed."""
    done = subprocess.run(
        [str(one) for one in arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode not in ok:
        raise RuntimeError(f"{arguments}: exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


class Network:
    """Context manager; the namespaces exist inside the block."""

    def __init__(self, name: str, net: int = 0) -> None:
        if not name.isalnum() or len(name) > 8 or not 0 <= net <= 255:
            raise ValueError("a lab has a name of at most 8 letters and a net of 0 to 255")
        self.name = name
        self.net = net

    def address(self, host: int) -> str:
        return f"10.77.{self.net}.{host}"

    def address6(self, host: int) -> str:
        return f"fd77:{self.net:x}::{host:x}"

    def namespace(self, host: str = SERVER) -> str:
        return f"nf-{self.name}-{host}"

    def inside(self, host: str, *arguments: str | Path) -> list[str]:
        """The command line that runs ``arguments`` in a host's network namespace."""
        line = ["nsenter", f"--net=/run/netns/{self.namespace(host)}", "--"]
        return line + [str(one) for one in arguments]

    def __enter__(self) -> Network:
        self._sweep()
        try:
            self._build()
        except BaseException:
            self._sweep()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sweep()

    def _build(self) -> None:
        server = self.namespace()
        sh("ip", "netns", "add", server)
        sh("ip", "-n", server, "link", "set", "lo", "up")
        # forward_delay 0: a port forwards at once, as an access port of a real switch does.
        sh(
            *("ip", "-n", server, "link", "add", BRIDGE, "type", "bridge"),
            *("stp_state", "0", "forward_delay", "0", "mcast_snooping", "0"),
        )
        sh("ip", "-n", server, "addr", "add", f"{self.address(1)}/24", "dev", BRIDGE)
        sh("ip", "-n", server, "addr", "add", f"{self.address6(1)}/64", "dev", BRIDGE, "nodad")
        sh("ip", "-n", server, "link", "set", BRIDGE, "up")
        self.add_host(ROUTER, 254)
        sh("ip", "-n", server, "route", "add", "default", "via", self.address(254))

    def add_host(self, host: str, number: int, mac: str = "", pings: bool = True) -> None:
        """A host with addresses ``.number`` on the LAN; without ``pings`` only ARP/ND answers."""
        space, cable = self.namespace(host), self._cable(host)
        sh("ip", "netns", "add", space)
        peer = ["peer", "name", "eth0", "netns", space]
        sh(
            *("ip", "-n", self.namespace(), "link", "add", cable, "type", "veth"),
            *peer,
            *(("address", mac) if mac else ()),
        )
        sh("ip", "-n", self.namespace(), "link", "set", cable, "master", BRIDGE, "up")
        sh("ip", "-n", space, "link", "set", "lo", "up")
        sh("ip", "-n", space, "addr", "add", f"{self.address(number)}/24", "dev", "eth0")
        sh("ip", "-n", space, "addr", "add", f"{self.address6(number)}/64", "dev", "eth0", "nodad")
        sh("ip", "-n", space, "link", "set", "eth0", "up")
        if host != ROUTER:
            sh("ip", "-n", space, "route", "add", "default", "via", self.address(254))
        if not pings:
            for key in ("ipv4/icmp_echo_ignore_all", "ipv6/icmp/echo_ignore_all"):
                sh(*self.inside(host, "sh", "-c", f"echo 1 > /proc/sys/net/{key}"))

    def drop_host(self, host: str) -> None:
        """Switch a host off: its namespace and cable are gone."""
        sh("ip", "-n", self.namespace(), "link", "del", self._cable(host), ok=(0, 1))
        sh("ip", "netns", "del", self.namespace(host), ok=(0, 1))

    def plug(self, host: str, connected: bool) -> None:
        """Pull a host's cable out of the switch, or put it back."""
        state = "up" if connected else "down"
        sh("ip", "-n", self.namespace(), "link", "set", self._cable(host), state)

    def _cable(self, host: str) -> str:
        return f"v-{host}"[:15]

    def _sweep(self) -> None:
        """Remove all namespaces of this lab; their links go with them."""
        known = json.loads(sh("ip", "-j", "netns", "list") or "[]")
        for one in known:
            if one["name"].startswith(f"nf-{self.name}-"):
                sh("ip", "netns", "del", one["name"], ok=(0, 1))
