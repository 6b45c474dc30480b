"""Captures the machines and screens of the dry run from the lab's guests (as root, minutes).

``python -m notfall_lab.dryrun.capture`` boots each guest, enrols it at a real emergency server and
keeps what its agent told; then it boots new machines from the rescue medium and keeps what they
told. Nothing is invented: a machine that no lab has is put beside them by hand, from a real one.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from notfall_lab.cycle import Play, TargetSpec, boot_target, fetch_medium
from notfall_lab.dryrun.hypervisor import SCREENS
from notfall_lab.dryrun.machines import CAPTURED
from notfall_lab.image import make_image
from notfall_lab.machine import HardDisk, Hardware, Machine
from notfall_lab.recipe_guest import BIOS, UEFI, Recipe
from notfall_lab.recipe_storage import STORAGE, storage_disks
from notfall_lab.timeline import Timeline
from notfall_lab.world import World
from notfallserver.server.records.catalogue import FILE

GIB = 1 << 30
PATIENCE_S = 1200.0
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


def _told(world: World, table: str, before: Sequence[str] = ()) -> dict[str, Any]:
    """Wait for what an agent or a rescue medium tells the server, whichever program that runs."""
    until = time.monotonic() + PATIENCE_S
    key = "uuid" if table == "primaries" else "id"
    while time.monotonic() < until:
        address = f"file:{world.directory / 'data' / FILE}?mode=ro"
        with closing(sqlite3.connect(address, uri=True)) as database:
            rows = database.execute(f"SELECT {key}, machine FROM {table}").fetchall()  # noqa: S608
        for one, machine in rows:
            if one not in before and machine:
                found: dict[str, Any] = json.loads(machine)
                return found
        time.sleep(1)
    raise TimeoutError("nobody told of the machine")


def _start(world: World, recipe: Recipe, disks: Sequence[HardDisk], folder: Path) -> Machine:
    hardware = Hardware(recipe.name, tuple(disks), recipe.mac, recipe.firmware)
    machine = world.keep(Machine(hardware, folder, world.lan))
    machine.power_on()
    return machine


def _guest(world: World, recipe: Recipe) -> None:
    name = recipe.name
    folder = world.directory / f"m-{name}"
    if recipe is STORAGE:
        disks = storage_disks(folder)
    else:
        disks = [HardDisk(one) for one in make_image(recipe).copy_to(folder)]
    machine = _start(world, recipe, disks, folder)
    if recipe is BIOS:
        _screens(machine)
    world.shell(recipe).wait(PATIENCE_S)
    before = [one["uuid"] for one in world.ask("/primaries")]
    line = world.notfall("primary", "invite", name)["line"]
    world.shell(recipe).run(line, timeout=PATIENCE_S)
    _keep(name, _told(world, "primaries", before))
    machine.cut_power()


def _screens(machine: Machine) -> None:
    """A guest's screen while it starts."""
    SCREENS.mkdir(exist_ok=True)
    began = time.monotonic()
    for number, after in enumerate(SCREEN_AFTER_S):
        time.sleep(max(0.0, began + after - time.monotonic()))
        machine.screenshot(SCREENS / f"{number}.png")


def _target(world: World, name: str) -> None:
    recipe, spec = TARGETS[name]
    play = Play(world, recipe, Timeline("capture"), spec)
    fetch_medium(play)
    before = [one["id"] for one in world.ask("/targets")]
    boot_target(play)
    _keep(name, _told(world, "targets", before))
    if play.target is not None:
        play.target.cut_power()


def main() -> None:
    """All, or those that are named."""
    guests = {one.name: one for one in (BIOS, UEFI, STORAGE)}
    wanted = sys.argv[1:] or [*guests, *TARGETS]
    directory = Path(tempfile.mkdtemp(prefix="nf-facts-", dir="/var/tmp"))
    try:
        with World("facts", directory) as world:
            world.set_up_server()
            world.start_server()
            for name in wanted:
                if name in guests:
                    _guest(world, guests[name])
                else:
                    _target(world, name)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
