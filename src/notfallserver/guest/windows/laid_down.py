"""Whole drivers' packages, laid down for the agent in the image: it installs them at its start.

Only Windows itself can install one for good, with all its files and settings. What the start needs
is there before (:mod:`staged`); all else can wait for the agent (``agent/windows/drivers.py``).
Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence, Tuple

from notfallserver.guest.facts import Hardware, HardwareNic
from notfallserver.guest.windows.devices import virtual_ids
from notfallserver.guest.windows.facts import Generation, WindowsSystem
from notfallserver.guest.windows.supplied import Chosen

PACKAGES = "ProgramData/Notfallserver/Agent/drivers"
"""There each package has a folder of its own."""

INBOX_CARDS = {
    Generation.XP: ("8139cp", "8139too", "pcnet32"),
    Generation.VISTA: ("e1000", "8139cp", "8139too"),
    Generation.EIGHT: ("e1000e", "e1000"),
}
"""Of the cards that a virtual machine can have (by Linux' drivers): those that Windows knows."""


@dataclass(frozen=True)
class PutPackage:
    """Copy ``files`` of the folder ``source``, outside the image, into a new folder ``target``."""

    source: str
    files: Tuple[str, ...]
    target: str
    change: str


def wanted_ids(hardware: Hardware, generation: Generation) -> Tuple[str, ...]:
    """For what a driver from the customer's folder may be of use."""
    found: List[str] = []
    for disk in hardware.disks:
        found += disk.ids or virtual_ids(disk.driver)
    for nic in hardware.nics:
        found += card_ids(nic, generation, hardware.role == "stand-in")
    return tuple(dict.fromkeys(found))


def card_ids(nic: HardwareNic, generation: Generation, virtual: bool) -> Tuple[str, ...]:
    """None of a virtual card that Windows knows: its own driver is what the rehearsal tried."""
    if not virtual:
        return nic.ids
    driver = nic.driver.replace("-", "_")
    return () if driver in INBOX_CARDS[generation] else virtual_ids(driver)


def lay_down(
    system: WindowsSystem, hardware: Hardware, staged: Sequence[Chosen], supplied: Sequence[Chosen]
) -> Tuple[PutPackage, ...]:
    """What was staged, and what the network cards need."""
    virtual = hardware.role == "stand-in"
    cards: List[str] = []
    for nic in hardware.nics:
        cards += card_ids(nic, system.generation, virtual)
    wanted = list(staged)
    for one in supplied:
        installed = one.service and _is_there(system, one.service.name)
        if not one.is_storage and one.serves(cards) and not (virtual and installed):
            wanted.append(one)
    return tuple(_put(one) for one in wanted if folder_of(one) not in system.packages)


def folder_of(chosen: Chosen) -> str:
    """By name and contents: what lies there under this name is the same."""
    return f"{chosen.package.name}-{chosen.mark[:12]}"


def _is_there(system: WindowsSystem, name: str) -> bool:
    known = system.services.get(name.lower())
    return bool(known and known.present)


def _put(chosen: Chosen) -> PutPackage:
    package = chosen.package
    what = "disk controller" if chosen.is_storage else "network card"
    told = f"{package.title}, driver of the {what}, laid down for the agent to install"
    target = f"{PACKAGES}/{folder_of(chosen)}"
    return PutPackage(package.folder, package.files, target, told)
