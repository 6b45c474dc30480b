"""A network without a way out, for a machine that must not meet the one it is a copy of.

It is a network namespace of its own with one switch in it. Nothing leads from there to another
network, not even to this host, whose kernel sees none of its frames: a machine's cable (a tap) is
made on the host, opened by the machine while that stands still, and moved here before it runs.

The namespace has no name: it is held by an open file of this process. When the process ends, in
whatever way, the kernel takes switch and cables away, and a machine that still runs hears nobody.
Only a cable that was not moved yet can be left over; :func:`remove_cables` takes it away.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from notfallserver.server.host.namespace import in_namespace, new_namespace
from notfallserver.server.host.run import Finished, run

SWITCH = "switch"
CABLES = "nfr-"
"""What the names of all cables begin with."""


@dataclass(frozen=True)
class HiddenNetwork:
    """``handle`` is the open file that holds the namespace."""

    handle: int
    cables: tuple[str, ...]

    def plug_in(self) -> None:
        """Move the cables from the host into the network, while the machine stands still."""
        for cable in self.cables:
            place = f"/proc/{os.getpid()}/fd/{self.handle}"
            run(["ip", "link", "set", cable, "netns", place], timeout=10)
        self._batch(
            line
            for cable in self.cables
            for line in (
                f"link set {cable} addrgenmode none",
                f"link set {cable} master {SWITCH} up",
            )
        )

    def connect(self, address: tuple[str, int], timeout: float) -> socket.socket:
        """A TCP connection inside the network; as :func:`socket.create_connection`."""
        return in_namespace(self.handle, lambda: socket.create_connection(address, timeout))

    def command(
        self, arguments: Sequence[str | Path], timeout: float, environment: Mapping[str, str]
    ) -> Finished:
        """An external command that sees only this network."""
        return in_namespace(
            self.handle, lambda: run(arguments, timeout=timeout, environment=environment)
        )

    def heard(self) -> frozenset[str]:
        """The MAC addresses that have sent something within the last minutes."""
        told = in_namespace(
            self.handle, lambda: run(["bridge", "-j", "fdb", "show", "br", SWITCH], timeout=10)
        ).out
        known = json.loads(told or "[]")
        return frozenset(
            one["mac"]
            for one in known
            if one.get("ifname") in self.cables and one.get("state") != "permanent"
        )

    def _batch(self, lines: Iterable[str]) -> None:
        text = "".join(f"{line}\n" for line in lines)
        in_namespace(self.handle, lambda: run(["ip", "-batch", "-"], text_in=text, timeout=10))


@contextmanager
def hidden_network(cables: Sequence[str], addresses: Sequence[str]) -> Iterator[HiddenNetwork]:
    """The network inside this block; its cables lie on the host until :meth:`plug_in`.

    ``addresses`` (with prefix length) are those that this process has in it, for asking.
    """
    remove_cables(cables)
    handle = new_namespace()
    try:
        network = HiddenNetwork(handle, tuple(cables))
        network._batch(
            (
                f"link add {SWITCH} type bridge forward_delay 0 stp_state 0 mcast_snooping 0",
                f"link set {SWITCH} up",
                *(
                    f"address add {one} dev {SWITCH}{' nodad' if ':' in one else ''}"
                    for one in addresses
                ),
            )
        )
        for cable in cables:
            run(["ip", "tuntap", "add", "dev", cable, "mode", "tap"], timeout=10)
        yield network
    finally:
        os.close(handle)
        remove_cables(cables)


def remove_cables(cables: Sequence[str] | None = None) -> None:
    """Take away cables that lie on the host; None: all there are."""
    links = json.loads(run(["ip", "-j", "link", "show"], timeout=10).out or "[]")
    for link in links:
        name = str(link["ifname"])
        if name.startswith(CABLES) and (cables is None or name in cables):
            run(["ip", "link", "del", name], timeout=10, ok=(0, 1))
