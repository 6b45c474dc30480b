"""The LAN's router gives addresses by DHCP, as a rescue system on a new machine expects."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from notfall_lab.namespace import ROUTER, Network

FIRST, LAST = 200, 220


@contextmanager
def dhcp(network: Network) -> Iterator[None]:
    """Addresses .200 to .220 for who asks, inside the block."""
    span = f"{network.address(FIRST)},{network.address(LAST)},1h"
    process = subprocess.Popen(
        [
            *("setpriv", "--pdeathsig", "KILL", "--"),
            *network.inside(ROUTER, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null"),
            *("--port=0", "--interface=eth0", "--bind-interfaces", "--no-ping"),
            *(f"--dhcp-range={span}", f"--dhcp-option=option:router,{network.address(254)}"),
            *("--dhcp-leasefile=/dev/null", "--pid-file=", "--log-facility=/dev/null"),
            *("--user=root",),
        ],
        stdin=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait(timeout=10)
