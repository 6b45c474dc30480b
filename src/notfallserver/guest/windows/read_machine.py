"""What the registry says of drivers, disks and power."""

from __future__ import annotations

import uuid
from typing import Callable, Dict, List, Mapping, Tuple

from notfallserver.guest.windows.facts import (
    CriticalDevice,
    DriveLetter,
    Filters,
    Service,
    Settings,
)
from notfallserver.guest.windows.hive import Hive
from notfallserver.guest.windows.plan import KEPT_AUTO_REBOOT, RESTORED

_DRIVERS = (1, 2, 8)
"""Kinds of services: of devices, of file systems, and those that recognise one."""
_BOOT_CLASSES = {
    "{4d36e967-e325-11ce-bfc1-08002be10318}": "disks",
    "{4d36e96a-e325-11ce-bfc1-08002be10318}": "IDE and AHCI controllers",
    "{4d36e97b-e325-11ce-bfc1-08002be10318}": "SCSI controllers",
    "{4d36e97d-e325-11ce-bfc1-08002be10318}": "system devices",
    "{71a27cdd-812a-11d0-bec7-08002be2092f}": "volumes",
    "{4d36e96b-e325-11ce-bfc1-08002be10318}": "keyboards",
    "{4d36e96f-e325-11ce-bfc1-08002be10318}": "mice",
}
"""Without a filter of these classes Windows does not start, or can't be used."""


def read_services(system: Hive, current: str, present: Callable[[str], bool]) -> Dict[str, Service]:
    """All drivers of the kernel. ``present`` tells of a path below Windows whether it is there."""
    found = {}
    for key in system.below(f"{current}\\Services"):
        if key.number("type") not in _DRIVERS or key.number("start") < 0:
            continue
        path = driver_path(key.text("imagepath"), key.name.lower())
        overridden = any(one.lower() == "startoverride" for one in key.keys)
        there = bool(path) and present(path)
        found[key.name.lower()] = Service(key.number("start"), path, there, overridden)
    return found


def driver_path(image: str, name: str) -> str:
    """Below Windows, in lower case with slashes; empty for one that lies elsewhere."""
    path = image.strip().strip('"').replace("\\", "/").lower()
    if not path:
        return f"system32/drivers/{name}.sys"
    for prefix in ("/systemroot/", "%systemroot%/", "/??/c:/windows/", "c:/windows/", "/windows/"):
        if path.startswith(prefix):
            return path[len(prefix) :]
    if path.startswith("/") or ":" in path or ".." in path.split("/"):
        return ""
    return path


def read_critical_devices(system: Hive, current: str) -> Dict[str, CriticalDevice]:
    """By hardware id in lower case."""
    found = {}
    for key in system.below(f"{current}\\Control\\CriticalDeviceDatabase"):
        device = CriticalDevice(key.text("service").lower(), key.text("classguid").lower())
        found[key.name.lower()] = device
    return found


def read_filters(
    system: Hive, current: str, services: Mapping[str, Service]
) -> Tuple[Filters, ...]:
    found: List[Filters] = []
    for name, devices in _BOOT_CLASSES.items():
        values = system.values(f"{current}\\Control\\Class\\{name}")
        for side in ("UpperFilters", "LowerFilters"):
            drivers = values[side.lower()].texts() if side.lower() in values else ()
            if drivers:
                missing = tuple(
                    one
                    for one in drivers
                    for known in [services.get(one.lower())]
                    if known is None or (known.file and not known.present)
                )
                found.append(Filters(name, side, drivers, missing, devices))
    return tuple(found)


def read_letters(system: Hive) -> Tuple[DriveLetter, ...]:
    """Of partitions only; CD drives and sticks tell themselves by text."""
    found = []
    for name, value in sorted(system.values("MountedDevices").items()):
        letter = name.rpartition("\\")[2].upper()
        if not name.startswith("\\dosdevices\\"):
            continue
        if len(value.data) == 12:
            signature = int.from_bytes(value.data[:4], "little")
            start = int.from_bytes(value.data[4:], "little")
            found.append(DriveLetter(letter, signature, start))
        elif len(value.data) == 24 and value.data.startswith(b"DMIO:ID:"):
            found.append(DriveLetter(letter, part_uuid=str(uuid.UUID(bytes_le=value.data[8:]))))
    return tuple(found)


def read_settings(system: Hive, current: str) -> Settings:
    control = f"{current}\\Control"
    return Settings(
        auto_reboot=system.number(f"{control}\\CrashControl", "AutoReboot"),
        kept_auto_reboot=system.number(f"{control}\\CrashControl", KEPT_AUTO_REBOOT),
        san_policy=system.number(f"{current}\\Services\\partmgr\\Parameters", "SanPolicy"),
        fast_start=system.number(f"{control}\\Session Manager\\Power", "HiberbootEnabled"),
        hibernation=system.number(f"{control}\\Power", "HibernateEnabled"),
        clock_in_utc=system.number(f"{control}\\TimeZoneInformation", "RealTimeIsUniversal"),
        restored=system.number(f"{current}\\Services\\NTDS\\Parameters", RESTORED),
    )
