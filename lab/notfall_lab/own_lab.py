"""Labs of one's own: the tests of a file may be run by several workers of pytest-xdist at once."""

from __future__ import annotations

import os
from pathlib import Path

from notfall_lab.hypervisor import Lab
from notfall_lab.namespace import Network

NETS_APART = 10


def own_name(name: str) -> str:
    """Of a lab that no other worker has; ``name`` has at most seven letters."""
    return f"{name}{_worker()}"


def own_lab(name: str, directory: Path, net: int) -> Lab:
    """A lab with its own name and net."""
    return Lab(own_name(name), directory, net=_net(net))


def own_network(name: str, net: int) -> Network:
    return Network(own_name(name), _net(net))


def _worker() -> int:
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def _net(net: int) -> int:
    return net + NETS_APART * _worker()
