"""Captures the machines and screens of the dry run from the lab's guests (as root, minutes).

``python -m notfall_lab.dryrun.capture`` boots each guest, enrols it at a real emergency server and
keeps what its agent told; then it boots new machines from the rescue medium and keeps what they
told. Nothing is invented: a machine that no lab has is put beside them by hand, from a real one.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from notfall_lab.cycle import (
    BOOT_S,
    Play,
    TargetSpec,
    boot_target,
    build_medium,
    enrol,
    start_primary,
    start_server,
)
from notfall_lab.dryrun.hypervisor import SCREENS
from notfall_lab.dryrun.machines import CAPTURED
from notfall_lab.machine import Hardware, Machine
from notfall_lab.recipe_guest import BIOS, UEFI
from notfall_lab.recipe_storage import STORAGE, storage_disks
from notfall_lab.timeline import Timeline
from notfall_lab.world import World
from notfallserver.server.records import open_catalogue

GIB = 1 << 30
SCREEN_AFTER_S = (2, 8, 16, 60)
TARGETS = {
    "new-bios": (BIOS, TargetSpec(bus="sata", sizes=(4 * GIB, 3 * GIB))),
    "new-uefi": (UEFI, TargetSpec(bus="nvme", sizes=(4 * GIB, 3 * GIB), mac="52:54:00:99:00:02")),
}


def _keep(name: str, facts: dict[str, Any]) -> None:
    CAPTURED.mkdir(parents=True, exist_ok=True)
    path = CAPTURED / f"{name}.json"
    path.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    print(f"kept: {path}")


def _told(world: World, ask: Callable[[Any], Any]) -> dict[str, Any]:
    """Wait for what an agent or a rescue medium tells the server."""
    until = time.monotonic() + BOOT_S
    while time.monotonic() < until:
        catalogue = open_catalogue(world.directory / "data")
        try:
            if (machine := ask(catalogue)) is not None:
                found: dict[str, Any] = machine.to_json()
                return found
        finally:
            catalogue.close()
        time.sleep(1)
    raise TimeoutError("nobody told of the machine")


def _guest(play: Play) -> None:
    name = play.recipe.name
    start_primary(play)
    enrol(play)
    _keep(name, _told(play.world, lambda known: known.primaries.find(name).machine))


def _storage(world: World) -> None:
    folder = world.directory / f"m-{STORAGE.name}"
    hardware = Hardware(STORAGE.name, tuple(storage_disks(folder)), STORAGE.mac)
    machine = world.keep(Machine(hardware, folder, world.lan))
    machine.power_on()
    world.shell(STORAGE).wait(BOOT_S)
    play = Play(world, STORAGE, Timeline("storage"))
    enrol(play)
    name = STORAGE.name
    _keep(name, _told(world, lambda known: known.primaries.find(name).machine))
    machine.cut_power()


def _screens(play: Play) -> None:
    """A guest's screen while it starts."""
    if play.primary is None:
        raise RuntimeError("no machine was started")
    SCREENS.mkdir(exist_ok=True)
    play.primary.cut_power()
    play.primary.power_on()
    began = time.monotonic()
    for number, after in enumerate(SCREEN_AFTER_S):
        time.sleep(max(0.0, began + after - time.monotonic()))
        play.primary.screenshot(SCREENS / f"{number}.png")


def main() -> None:
    directory = Path(tempfile.mkdtemp(prefix="nf-facts-", dir="/var/tmp"))
    try:
        with World("facts", directory) as world:
            timeline = Timeline("capture")
            plays = [Play(world, one, timeline) for one in (BIOS, UEFI)]
            start_server(plays[0])
            for play in plays:
                _guest(play)
                _screens(play)
                if play.primary is not None:
                    play.primary.cut_power()
            _storage(world)
            for name, (recipe, spec) in TARGETS.items():
                play = Play(world, recipe, timeline, spec)
                build_medium(play)
                boot_target(play)
                _keep(name, _told(world, _last_target))
                if play.target is not None:
                    play.target.cut_power()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _last_target(known: Any) -> Any:
    targets = sorted(known.targets.all(), key=lambda one: one.first_seen)
    return targets[-1].machine if targets else None


if __name__ == "__main__":
    main()
