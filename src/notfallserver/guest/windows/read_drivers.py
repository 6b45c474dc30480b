"""Which drivers a Windows that is not running would take for given hardware (:mod:`staged`)."""

from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

from notfallserver.guest.windows.hive import Hive
from notfallserver.guest.windows.staged import DATABASE


def read_served(system: Hive, ids: Sequence[str]) -> Dict[str, Tuple[str, ...]]:
    """By id, in lower case; nothing at all of a Windows that has no such database."""
    if not ids or not system.has(DATABASE):
        return {}
    return {one: _services(system, one) for one in ids}


def _services(system: Hive, device: str) -> Tuple[str, ...]:
    found: List[str] = []
    for inf in system.values(f"{DATABASE}\\DeviceIds\\{device}"):
        label = system.text(f"{DATABASE}\\DriverInfFiles\\{inf}", "Active")
        package = f"{DATABASE}\\DriverPackages\\{label}"
        way = system.text(f"{package}\\Descriptors\\{device}", "Configuration") if label else ""
        service = system.text(f"{package}\\Configurations\\{way}", "Service") if way else ""
        if service and service.lower() not in found:
            found.append(service.lower())
    return tuple(found)
