"""The whole adaptation of a Windows image: mount, read, plan, apply, unmount."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from notfallserver.guest.facts import Hardware, Volume
from notfallserver.guest.windows.apply import apply_windows
from notfallserver.guest.windows.facts import WindowsSystem
from notfallserver.guest.windows.hive import Hive
from notfallserver.guest.windows.laid_down import wanted_ids
from notfallserver.guest.windows.mounts import MountedWindows, mounted_windows
from notfallserver.guest.windows.packages import Windows
from notfallserver.guest.windows.places import CONFIG, find
from notfallserver.guest.windows.plan import plan_windows
from notfallserver.guest.windows.read import Hives, read_windows
from notfallserver.guest.windows.registry import SOFTWARE, SYSTEM
from notfallserver.guest.windows.supplied import Chosen, supplied_drivers
from notfallserver.guest.windows.workspace import whole_hive, workspace
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

Supply = Callable[[Windows, Sequence[str]], Optional[Path]]
"""Gives the folder with the customer's drivers for a Windows and the ids of its new hardware; it
may hold others, too. None where there is nothing."""


@dataclass(frozen=True)
class AdaptedWindows:
    """What was done, in words for people; ``clock``: what the machine's clock must show, ``utc`` or
    ``localtime``."""

    system: str
    changes: List[str]
    warnings: List[Dict[str, str]]
    boots_by: Tuple[str, ...]
    clock: str


def adapt_windows(
    volume: Volume,
    volumes: Sequence[Volume],
    disks: Sequence[str],
    original: Machine,
    hardware: Hardware,
    drivers: Optional[Supply] = None,
    tell: Callable[[str], None] = lambda change: None,
    carry_out: bool = True,
) -> AdaptedWindows:
    """``volume`` holds Windows; ``drivers`` gives what the customer's folder has."""
    with mounted_windows(volume, volumes, disks) as mounted:
        asked = tuple(one for disk in hardware.disks for one in disk.ids)
        system = inspect_windows(mounted, asked)
        supplied = _supplied(system, hardware, drivers)
        plan = plan_windows(system, hardware, original, supplied)
        if carry_out:
            changes = apply_windows(plan, mounted.root, mounted.esp, disks, tell)
        else:
            changes = list(dict.fromkeys(step.change for step in plan.steps))
        os.sync()
    warnings = [{"code": one.code, "text": one.text} for one in (*mounted.warnings, *plan.warnings)]
    return AdaptedWindows(system.name, changes, warnings, mounted.boots_by, plan.clock)


def _supplied(
    system: WindowsSystem, hardware: Hardware, drivers: Optional[Supply]
) -> Tuple[Chosen, ...]:
    """Which Windows it is, and so what fits, is known only now."""
    ids = wanted_ids(hardware, system.generation)
    if drivers is None or not ids:
        return ()
    windows = Windows(system.version, system.build, system.architecture, system.server)
    folder = drivers(windows, ids)
    return supplied_drivers(folder, windows, ids) if folder is not None else ()


def inspect_windows(mounted: MountedWindows, ids: Sequence[str] = ()) -> WindowsSystem:
    """Needs a writable mount: the hive SYSTEM is made whole beside the original one. ``ids``: of
    hardware, for whose drivers Windows is asked."""
    with workspace(mounted.root) as folder:
        return read_system(mounted, folder, ids)


def read_system(mounted: MountedWindows, folder: Path, ids: Sequence[str] = ()) -> WindowsSystem:
    """``folder``: where the hive SYSTEM is made whole.

    SOFTWARE can be large, and only names are read from it: that is done in place, whatever its
    logs hold.
    """
    with ExitStack() as stack:
        system = stack.enter_context(Hive(whole_hive(mounted.root, folder, SYSTEM)))
        software: Optional[Hive] = None
        try:
            software = stack.enter_context(Hive(find(mounted.root, f"{CONFIG}/{SOFTWARE}")))
        except NotfallError:
            pass
        return read_windows(
            mounted.root,
            Hives(system, software),
            mounted.volume,
            mounted.loaders,
            mounted.boots_by,
            ids,
        )
