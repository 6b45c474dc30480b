"""The whole adaptation of an image on attached disks: mount, inspect, plan, apply, unmount."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Callable, Dict, List, Sequence, Tuple

from notfallserver.guest.apply import apply_plan
from notfallserver.guest.facts import Hardware
from notfallserver.guest.inspect import inspect
from notfallserver.guest.loaders import boots_by
from notfallserver.guest.mounts import mounted_system
from notfallserver.guest.plan import plan_adaptation
from notfallserver.guest.volumes import opened_volumes
from notfallserver.wire.facts import Machine


@dataclass(frozen=True)
class Adapted:
    """What was done, in words for people; ``boots_by``: the firmware it can start by."""

    system: str
    changes: List[str]
    warnings: List[Dict[str, str]]
    boots_by: Tuple[str, ...] = ()


def adapt(
    disks: Sequence[str],
    original: Machine,
    hardware: Hardware,
    tell: Callable[[str], None] = lambda change: None,
) -> Adapted:
    """Adapt the image on ``disks`` (device paths in the order of the original's disks)."""
    with opened_volumes(disks) as volumes, mounted_system(volumes, original) as mounted:
        system = inspect(mounted, volumes, disks)
        plan = plan_adaptation(system, hardware, original)
        changes = apply_plan(plan, mounted, disks, tell)
        starts = boots_by(system, mounted.root)
        os.sync()
    warnings = [{"code": one.code, "text": one.text} for one in plan.warnings]
    # a locked system can't be asked what it is; its agent told it
    name = original.system if mounted.locked and original.system else system.name
    return Adapted(name, changes, warnings, starts)
