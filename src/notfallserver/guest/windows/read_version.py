"""Which Windows it is: from the hive SOFTWARE, and without it as well as SYSTEM tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional, Tuple

from notfallserver.guest.windows.facts import Generation
from notfallserver.guest.windows.hive import Hive
from notfallserver.guest.windows.registry import Value
from notfallserver.wire.errors import NotfallError

_CURRENT = "Microsoft\\Windows NT\\CurrentVersion"
ELEVEN = 22000
"""From this build on it is 11, although the registry says 10."""
DOMAIN_CONTROLLER = "lanmannt"
_MARKETED = {(6, 0): "Vista", (6, 1): "7", (6, 2): "8", (6, 3): "8.1", (10, 0): "10"}


@dataclass(frozen=True)
class Version:
    name: str
    numbers: Tuple[int, int]
    build: int
    edition: str
    server: bool
    architecture: str
    generation: Generation


def control_set(system: Hive) -> str:
    """The one with which Windows starts the next time."""
    for name in ("Default", "Current"):
        number = system.number("Select", name)
        if number > 0 and system.has(f"ControlSet{number:03d}\\Services"):
            return f"ControlSet{number:03d}"
    raise NotfallError(
        "hive-damaged",
        "The registry file SYSTEM does not say with which settings Windows starts.",
        "Use an older version of this primary, and look at the disks of the original.",
    )


def read_version(system: Hive, software: Optional[Hive], current: str) -> Version:
    generation = _generation(system, current)
    environment = f"{current}\\Control\\Session Manager\\Environment"
    architecture = system.text(environment, "PROCESSOR_ARCHITECTURE").lower() or "amd64"
    server = _product(system, current) in ("servernt", DOMAIN_CONTROLLER)
    told = _told(software)
    texts = {key: one.text() for key, one in told.items()}
    numbers = _numbers(texts.get("currentversion", ""))
    if "currentmajorversionnumber" in told and "currentminorversionnumber" in told:
        major = told["currentmajorversionnumber"].number()
        numbers = (major, told["currentminorversionnumber"].number())
    digits = texts.get("currentbuildnumber", "") or texts.get("currentbuild", "")
    build = int(digits) if digits.isdecimal() else 0
    edition = texts.get("editionid", "")
    name = texts.get("productname", "")
    server = server or texts.get("installationtype", "").lower().startswith("server")
    if build >= ELEVEN and not server:
        name = name.replace("Windows 10", "Windows 11")
    if not name:
        marketed = _MARKETED.get(numbers, generation.value)
        name = f"Windows {marketed}" if not server else "Windows Server"
    return Version(name, numbers, build, edition, server, architecture, generation)


def is_domain_controller(system: Hive, current: str) -> bool:
    return _product(system, current) == DOMAIN_CONTROLLER


def _product(system: Hive, current: str) -> str:
    return system.text(f"{current}\\Control\\ProductOptions", "ProductType").lower()


def _told(software: Optional[Hive]) -> Dict[str, Value]:
    """Nothing where the hive is unreadable: names only are lost by that."""
    try:
        return software.values(_CURRENT) if software is not None else {}
    except NotfallError:
        return {}


def _generation(system: Hive, current: str) -> Generation:
    """By what is there, not by the number: an upgraded system keeps old keys, not old ways."""
    if system.has("DriverDatabase") or system.has(f"{current}\\Services\\storahci"):
        return Generation.EIGHT
    if system.has(f"{current}\\Services\\msahci"):
        return Generation.VISTA
    if system.has(f"{current}\\Control\\CriticalDeviceDatabase"):
        return Generation.XP
    raise NotfallError(
        "windows-too-old",
        "The image holds a Windows older than XP, or one whose registry is not complete.",
        "Adaptation knows Windows XP, Server 2003 and newer.",
    )


def _numbers(text: str) -> Tuple[int, int]:
    major, _, minor = text.partition(".")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else (0, 0)
