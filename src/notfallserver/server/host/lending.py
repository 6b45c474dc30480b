"""Gives addresses by DHCP in a network of its own: each machine the one it always gets.

By dnsmasq, which forgets everything at its end and tells nobody a name.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Interface

from notfallserver.server.host.namespace import in_namespace

log = logging.getLogger(__name__)

ENDS_WITHIN_S = 5


@dataclass(frozen=True)
class Lease:
    """``mac`` gets ``address``; ``gateway`` is told, and may be empty."""

    mac: str
    address: IPv4Interface
    gateway: str = ""


@contextmanager
def lending(namespace: int, interface: str, leases: Sequence[Lease]) -> Iterator[None]:
    """Inside this block, on an interface that has an address in each lease's network."""
    if not leases:
        yield
        return
    try:
        process = in_namespace(namespace, lambda: _start(_line(interface, leases)))
    except OSError as error:
        # Static addresses need none of this: the machine may still be found.
        log.warning("no addresses by DHCP: %s", error)
        yield
        return
    try:
        yield
    finally:
        process.kill()
        process.wait(ENDS_WITHIN_S)


def _start(line: Sequence[str]) -> subprocess.Popen[bytes]:
    quiet = subprocess.DEVNULL
    return subprocess.Popen(line, stdin=quiet, stdout=quiet, stderr=quiet)


def _line(interface: str, leases: Sequence[Lease]) -> list[str]:
    line = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file"]
    line += ["--port=0", "--no-hosts", "--no-resolv", "--no-ping", "--leasefile-ro"]
    line += ["--dhcp-authoritative", f"--interface={interface}", "--bind-interfaces"]
    networks = {one.address.network: one.gateway for one in leases}
    for number, (network, gateway) in enumerate(networks.items()):
        mask = f"{network.network_address},static,{network.netmask},12h"
        line.append(f"--dhcp-range=set:net{number},{mask}")
        # Without a value dnsmasq would name itself.
        line.append(
            f"--dhcp-option=tag:net{number},option:router{f',{gateway}' if gateway else ''}"
        )
    line += [f"--dhcp-host={one.mac},{one.address.ip}" for one in leases]
    return line
