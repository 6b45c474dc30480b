"""What the administrator of a primary is shown: which applications are held, and a try."""

from __future__ import annotations

import time
from pathlib import Path

from notfallserver.agent.applications.application import Application
from notfallserver.agent.applications.hold import Applications
from notfallserver.agent.applications.plan import plan_applications
from notfallserver.agent.config import Settings
from notfallserver.agent.disks.linux import protected_disks
from notfallserver.agent.disks.mounts import current_mounts, to_freeze


def show_applications(settings: Settings, state: Path, really: bool) -> int:
    """Print a line for each; ``really`` holds them for a moment. 1 when one can't be held."""
    disks = protected_disks(settings.disks)
    groups = to_freeze(current_mounts(), [one.device for one in disks])
    planned = plan_applications(settings.applications, groups)
    if not planned:
        print("No application is held: none with a recipe runs here, none is in the settings.")
        return 0
    if not really:
        for one in planned:
            print(f"{one.name}: {one.obstacle or _how(one)}")
        return 1 if any(one.obstacle for one in planned) else 0
    applications = Applications(planned, settings.applications.limit_seconds, state)
    try:
        applications.prepare(lambda: None)
        with applications.hold():
            still = time.monotonic()
        applied = applications.applied(still)
    finally:
        applications.close()
    for done in applied:
        print(f"{done.name}: {done.error or f'stood still for {done.held_ms / 1000:.2f} s'}")
    return 1 if any(one.error for one in applied) else 0


def _how(one: Application) -> str:
    if one.hold:
        return "is held by " + one.hold[0]
    return "stands still" if one.thaw else "works on, and writes its log out before"
