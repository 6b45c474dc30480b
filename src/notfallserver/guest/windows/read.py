"""Looks at a mounted Windows and says what the plan needs to know. Writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, FrozenSet, Optional, Sequence, Tuple

from notfallserver.guest.facts import Esp, Volume
from notfallserver.guest.windows.facts import WindowsSystem
from notfallserver.guest.windows.hive import Hive
from notfallserver.guest.windows.laid_down import PACKAGES
from notfallserver.guest.windows.places import DRIVERS, find
from notfallserver.guest.windows.plan import AGENT_FILES
from notfallserver.guest.windows.read_drivers import read_served
from notfallserver.guest.windows.read_machine import (
    read_critical_devices,
    read_filters,
    read_letters,
    read_services,
    read_settings,
)
from notfallserver.guest.windows.read_network import read_cards, read_interfaces
from notfallserver.guest.windows.read_version import control_set, is_domain_controller, read_version
from notfallserver.wire.errors import NotfallError

TEXT_LIMIT = 1 << 20
_DRIVERS = "system32/drivers"


@dataclass(frozen=True)
class Hives:
    """``system`` is whole: what its logs held is in it. ``software`` is None where it can't be
    opened; only names are read from it."""

    system: Hive
    software: Optional[Hive] = None


def read_windows(
    root: Path,
    hives: Hives,
    volume: Volume,
    esp: Optional[Esp] = None,
    boots_by: Tuple[str, ...] = (),
    ids: Sequence[str] = (),
) -> WindowsSystem:
    """``root`` is the mounted ``volume``, which holds the folder Windows; ``ids``: of hardware, for
    whose drivers Windows is asked."""
    system = hives.system
    current = control_set(system)
    version = read_version(system, hives.software, current)
    files = names_in(root, DRIVERS)

    def present(path: str) -> bool:
        folder, _, name = path.rpartition("/")
        if folder == _DRIVERS:
            return name in files
        try:
            return name in names_in(root, f"Windows/{folder}")
        except NotfallError:
            return True  # behind a link: nobody can tell, and nothing is taken away for that

    services = read_services(system, current, present)
    return WindowsSystem(
        name=version.name,
        generation=version.generation,
        version=version.numbers,
        build=version.build,
        edition=version.edition,
        server=version.server,
        architecture=version.architecture,
        hostname=system.text(f"{current}\\Control\\ComputerName\\ComputerName", "ComputerName"),
        control_set=current,
        root=volume,
        services=services,
        critical_devices=read_critical_devices(system, current),
        filters=read_filters(system, current, services),
        interfaces=read_interfaces(system, current),
        cards=read_cards(system, current),
        letters=read_letters(system),
        settings=read_settings(system, current),
        boots_by=boots_by,
        esp=esp,
        files=_texts(root),
        driver_files=files,
        domain_controller=is_domain_controller(system, current),
        served=read_served(system, ids),
        packages=names_in(root, PACKAGES),
    )


def names_in(root: Path, path: str) -> FrozenSet[str]:
    """In lower case. Names count: a file that Windows compressed is none to ntfs-3g."""
    folder = find(root, path)
    if not folder.is_dir():
        return frozenset()
    return frozenset(one.name.lower() for one in folder.iterdir())


def _texts(root: Path) -> Dict[str, str]:
    found = {}
    for path in AGENT_FILES:
        here = find(root, path)
        if here.is_file() and here.stat().st_size <= TEXT_LIMIT:
            found[path] = here.read_bytes().decode("utf-8", "surrogateescape")
    return found
