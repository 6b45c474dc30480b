"""What inspection finds in a Windows image: frozen, free of any action.

Names of services, drivers and ids are in lower case, for Windows does not tell their case apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import FrozenSet, Mapping, Optional, Tuple

from notfallserver.guest.facts import Esp, Volume

BOOT, SYSTEM_START, AUTOMATIC, ON_DEMAND, DISABLED = range(5)
"""When a service starts; drivers that the start of Windows needs have the first."""


class Generation(Enum):
    """How drivers of disk controllers are found at the start of Windows."""

    XP = "XP or Server 2003"
    """By CriticalDeviceDatabase; AHCI is not known."""
    VISTA = "Vista to 7 or Server 2008"
    """By CriticalDeviceDatabase; AHCI is msahci."""
    EIGHT = "8 or Server 2012 and newer"
    """By DriverDatabase; StartOverride takes a start away that is not needed here."""


@dataclass(frozen=True)
class Service:
    """``file`` is the driver's path below Windows, ``present`` whether it is there.

    ``overridden``: it has a key StartOverride, by which it may not start with Windows after all.
    """

    start: int
    file: str = ""
    present: bool = False
    overridden: bool = False


@dataclass(frozen=True)
class CriticalDevice:
    service: str
    class_id: str


@dataclass(frozen=True)
class Filters:
    """Drivers above or below all devices of a class; ``missing`` have no service or no file."""

    class_id: str
    side: str  # UpperFilters or LowerFilters
    drivers: Tuple[str, ...]
    missing: Tuple[str, ...] = ()
    devices: str = ""  # what the class is, in words


@dataclass(frozen=True)
class Interface:
    """What was set by hand of a network connection. ``addresses`` with prefix length; without any
    the network gives them, ``leased`` was the last one."""

    name: str  # {GUID}
    addresses: Tuple[str, ...] = ()
    gateways: Tuple[str, ...] = ()
    name_servers: Tuple[str, ...] = ()
    leased: str = ""


@dataclass(frozen=True)
class Card:
    """A network card that Windows has met; the present ones and those that are long gone."""

    description: str
    device: str  # pci\ven_8086&dev_100f
    interface: str  # {GUID}


@dataclass(frozen=True)
class DriveLetter:
    """Which partition has a drive letter: disk signature and start (MBR), or partition (GPT)."""

    letter: str
    signature: int = 0
    start: int = 0
    part_uuid: str = ""


@dataclass(frozen=True)
class Settings:
    """-1 where the registry says nothing."""

    auto_reboot: int = -1
    kept_auto_reboot: int = -1  # what it was before the first adaptation
    san_policy: int = -1
    fast_start: int = -1
    hibernation: int = -1
    clock_in_utc: int = -1
    restored: int = -1  # of a domain controller: its database comes from a copy


@dataclass(frozen=True)
class WindowsSystem:
    """``boots_by``: bios, uefi or both; ``esp`` is None where there is none."""

    name: str
    generation: Generation
    version: Tuple[int, int]
    build: int
    edition: str
    server: bool
    architecture: str  # amd64 or x86
    hostname: str
    control_set: str  # ControlSet001
    root: Volume
    services: Mapping[str, Service] = field(default_factory=dict)
    critical_devices: Mapping[str, CriticalDevice] = field(default_factory=dict)
    filters: Tuple[Filters, ...] = ()
    interfaces: Tuple[Interface, ...] = ()
    cards: Tuple[Card, ...] = ()
    letters: Tuple[DriveLetter, ...] = ()
    settings: Settings = Settings()
    boots_by: Tuple[str, ...] = ()
    esp: Optional[Esp] = None
    files: Mapping[str, str] = field(default_factory=dict)  # the agent's, by path in the guest
    driver_files: FrozenSet[str] = frozenset()  # below System32/drivers
    domain_controller: bool = False
    served: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)
    """By hardware id, of those that were asked for: drivers that DriverDatabase names for it."""
    packages: FrozenSet[str] = frozenset()
    """Drivers' packages that lie there for the agent to install, by their folders' names."""

    def starts(self, service: str) -> bool:
        """Whether the driver starts with Windows, on any machine."""
        known = self.services.get(service)
        return bool(known and known.present and known.start == BOOT and not known.overridden)
