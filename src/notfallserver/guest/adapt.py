"""The whole adaptation of an image on attached disks: mount, inspect, plan, apply, unmount."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from notfallserver.guest.apply import apply_plan
from notfallserver.guest.facts import Hardware, Volume
from notfallserver.guest.inspect import inspect
from notfallserver.guest.loaders import boots_by
from notfallserver.guest.mounts import mounted_system
from notfallserver.guest.plan import plan_adaptation
from notfallserver.guest.volumes import opened_volumes
from notfallserver.guest.windows.mounts import BITLOCKER, NTFS, windows_volume
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine


@dataclass(frozen=True)
class Adapted:
    """What was done, in words for people; ``boots_by``: the firmware it can start by; ``clock``:
    what the machine's clock must show where that is not UTC."""

    system: str
    changes: List[str]
    warnings: List[Dict[str, str]]
    boots_by: Tuple[str, ...] = ()
    clock: str = ""


def adapt(
    disks: Sequence[str],
    original: Machine,
    hardware: Hardware,
    tell: Callable[[str], None] = lambda change: None,
    drivers: Optional[Callable[..., Optional[Path]]] = None,
    carry_out: bool = True,
) -> Adapted:
    """Adapt the image on ``disks`` (device paths in the order of the original's disks); of Windows
    with the customer's ``drivers`` (``windows/adapt.py``).

    Not carried out, it is only planned: ``changes`` are those that would be made.
    """
    with opened_volumes(disks) as volumes:
        windows = _windows(volumes, original)
        if windows is None:
            return _adapt_linux(volumes, disks, original, hardware, tell, carry_out)
        # only images of Windows need what opens its registry
        from notfallserver.guest.windows.adapt import adapt_windows

        done = adapt_windows(windows, volumes, disks, original, hardware, drivers, tell, carry_out)
        return Adapted(done.system, done.changes, done.warnings, done.boots_by, done.clock)


def _windows(volumes: Sequence[Volume], original: Machine) -> Optional[Volume]:
    """The volume of the Windows that is to start; None where a Linux is."""
    if any(original.windows):
        return windows_volume(volumes)
    if original.system or not any(one.filesystem in (NTFS, BITLOCKER) for one in volumes):
        return None
    try:  # nobody told what the image holds
        with mounted_system(volumes, original, writable=False):
            return None
    except NotfallError as error:
        if error.code != "no-system":
            raise
        return windows_volume(volumes)


def _adapt_linux(
    volumes: Sequence[Volume],
    disks: Sequence[str],
    original: Machine,
    hardware: Hardware,
    tell: Callable[[str], None],
    carry_out: bool,
) -> Adapted:
    with mounted_system(volumes, original) as mounted:
        system = inspect(mounted, tuple(volumes), disks)
        plan = plan_adaptation(system, hardware, original)
        if carry_out:
            changes = apply_plan(plan, mounted, disks, tell)
        else:
            changes = [step.change for step in plan.steps]
        starts = boots_by(system, mounted.root)
        os.sync()
    warnings = [{"code": one.code, "text": one.text} for one in plan.warnings]
    # a locked system can't be asked what it is; its agent told it
    name = original.system if mounted.locked and original.system else system.name
    return Adapted(name, changes, warnings, starts)
