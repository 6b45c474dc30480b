"""Brings the network up: DHCP on every card, or one fixed address from the kernel command line.

``notfall.ip=ADDRESS/PREFIX[,GATEWAY]`` sets the address on the first card that has a link.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List

from notfallserver.guest.shell import ENVIRONMENT, run
from notfallserver.wire.errors import NotfallError

SYS_NET = Path("/sys/class/net")
DHCP_SCRIPT = Path("/opt/notfall/dhcp.sh")
LINK_WAIT_S = 20.0


@dataclass(frozen=True)
class FixedAddress:
    address: str  # with prefix length
    gateway: str = ""


def kernel_parameters(line: str) -> Dict[str, str]:
    """``notfall.*`` parameters of a kernel command line, without the prefix."""
    pairs = [one.partition("=") for one in line.split() if one.startswith("notfall.")]
    return {key[len("notfall.") :]: value for key, _, value in pairs}


def fixed_address(told: str) -> FixedAddress:
    address, _, gateway = told.partition(",")
    if "/" not in address:
        raise NotfallError(
            "bad-address",
            f"'notfall.ip={told}' is no address.",
            "Write it as notfall.ip=ADDRESS/PREFIX,GATEWAY, for example 192.0.2.7/24,192.0.2.1.",
        )
    return FixedAddress(address, gateway)


def cards() -> List[str]:
    return [one.name for one in sorted(SYS_NET.iterdir()) if (one / "device").exists()]


def has_link(card: str) -> bool:
    try:
        return (SYS_NET / card / "carrier").read_text().strip() == "1"
    except OSError:
        return False


class Network:
    """Keeps cards up; :meth:`tend` may be called again and again, as cards come and go."""

    def __init__(self, fixed: str) -> None:
        self._fixed = fixed_address(fixed) if fixed else None
        self._clients: Dict[str, subprocess.Popen[bytes]] = {}
        self._began = time.monotonic()
        self._set_on = ""

    def tend(self) -> None:
        for card in cards():
            run(["ip", "link", "set", card, "up"], ok=range(256))
        if self._fixed is not None:
            self._set_fixed(self._fixed)
            return
        for card in cards():
            client = self._clients.get(card)
            if client is None or client.poll() is not None:
                self._clients[card] = subprocess.Popen(
                    ["busybox", "udhcpc", "-f", "-i", card, "-s", str(DHCP_SCRIPT), "-t", "5"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=ENVIRONMENT,
                )

    def _set_fixed(self, fixed: FixedAddress) -> None:
        if self._set_on in cards():
            return
        linked = [card for card in cards() if has_link(card)]
        waited = time.monotonic() - self._began > LINK_WAIT_S
        chosen = linked or (cards() if waited else [])
        if not chosen:
            return
        self._set_on = chosen[0]
        run(["ip", "address", "replace", fixed.address, "dev", self._set_on], ok=range(256))
        if fixed.gateway:
            route = ["default", "via", fixed.gateway, "dev", self._set_on]
            run(["ip", "route", "replace", *route], ok=range(256))
