"""Hives before and after an adaptation, key by key; and opened again by another program's reader.

For each generation of Windows one: real ones of 10 and 7, made ones of the others.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import hivex
import pytest
from regipy.exceptions import RegistryKeyNotFoundException
from regipy.registry import RegistryHive

from notfall_lab import windows_image
from notfallserver.guest.facts import Hardware, HardwareDisk, HardwareNic
from notfallserver.guest.windows.apply import apply_windows, change_hive
from notfallserver.guest.windows.plan import plan_windows
from notfallserver.guest.windows.registry import (
    SYSTEM,
    DeleteKey,
    DeleteValue,
    RegistryStep,
    SetValue,
    Value,
    number,
)
from notfallserver.guest.windows.workspace import whole_hive, workspace
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine, Nic

MAC = "00:0c:29:00:00:01"
ORIGINAL = Machine("wks", nics=[Nic("Ethernet", MAC, addresses=["10.3.58.5/24"])])
Content = dict[tuple[str, str], Value]
"""By key and name; a key itself has no name and no value."""
NOTHING = Value(0, b"")

GENERATIONS: list[tuple[Callable[[Path], Path], str]] = [
    (windows_image.ten, "ahci"),
    (windows_image.small_ten, "ahci"),
    (windows_image.small_2012, "ahci"),
    (windows_image.seven, "ahci"),
    (windows_image.small_2008, "ahci"),
    (windows_image.xp, "ata_piix"),
]


def content(path: Path) -> Content:
    """All of a hive, names in small letters."""
    hive = hivex.Hivex(str(path))
    found: Content = {}
    waiting = [(hive.root(), "")]
    while waiting:
        node, key = waiting.pop()
        found[key, ""] = NOTHING
        for one in hive.node_values(node):
            found[key, f"={hive.value_key(one).lower()}"] = Value(*hive.value_value(one))
        for below in hive.node_children(node):
            name = hive.node_name(below).lower()
            waiting.append((below, f"{key}\\{name}" if key else name))
    return found


def expected(before: Content, steps: list[RegistryStep]) -> Content:
    """What the steps say, and nothing else."""
    after = dict(before)
    for step in steps:
        key = step.key.lower()
        if isinstance(step, SetValue):
            parts = key.split("\\")
            for at in range(len(parts)):
                after["\\".join(parts[: at + 1]), ""] = NOTHING
            after[key, f"={step.name.lower()}"] = step.value
        elif isinstance(step, DeleteValue):
            after.pop((key, f"={step.name.lower()}"), None)
        else:
            gone = [one for one in after if one[0] == key or one[0].startswith(f"{key}\\")]
            for one in gone:
                del after[one]
    return after


def registry_steps(root: Path, driver: str) -> list[RegistryStep]:
    nics = [HardwareNic("Ethernet", MAC, MAC, "e1000")]
    hardware = Hardware("bios", "stand-in", [HardwareDisk(driver)], nics)
    plan = plan_windows(windows_image.read(root, ("bios",)), hardware, ORIGINAL)
    apply_windows(plan, root, None, [])
    return [one for one in plan.steps if isinstance(one, SetValue | DeleteValue | DeleteKey)]


@pytest.mark.parametrize(("made", "driver"), GENERATIONS)
def test_only_what_the_plan_says_is_another_one(
    tmp_path: Path, made: Callable[[Path], Path], driver: str
) -> None:
    root = made(tmp_path)
    with workspace(root) as folder:
        before = content(whole_hive(root, folder, SYSTEM))
    steps = registry_steps(root, driver)
    path = root / windows_image.CONFIG / SYSTEM
    assert steps
    assert content(path) == expected(before, steps)
    reader = RegistryHive(str(path))
    for step in steps:
        assert read_elsewhere(reader, step) == wanted(step), step


def read_elsewhere(reader: RegistryHive, step: RegistryStep) -> object:
    """By a program that has nothing in common with what has written it."""
    try:
        key = reader.get_key(f"\\{step.key}")
    except RegistryKeyNotFoundException:
        return None
    return True if isinstance(step, DeleteKey) else key.get_value(step.name)


def wanted(step: RegistryStep) -> object:
    if not isinstance(step, SetValue):
        return None
    value = step.value
    found: list[object] = [value.number()] if value.number() >= 0 else []
    return found[0] if found else value.text() or list(value.texts())


def test_random_damage_is_refused_or_written_right(tmp_path: Path) -> None:
    """A damaged hive ends in a hive that shows what was wanted, or in a refusal that left it."""
    root = windows_image.small_ten(tmp_path)
    path = root / windows_image.CONFIG / SYSTEM
    sound = path.read_bytes()
    chance = random.Random(6)
    step = SetValue(SYSTEM, "ControlSet001\\Services\\storahci", "Start", number(0), "starts")
    refused = 0
    for _ in range(300):
        damaged = bytearray(sound)
        for _ in range(chance.randint(1, 12)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        if chance.random() < 0.2:
            del damaged[chance.randrange(len(damaged)) :]
        path.write_bytes(damaged)
        try:
            windows_image.read(root)
            change_hive(root, SYSTEM, [step])
        except NotfallError as error:
            assert error.code.startswith(("hive-", "windows-", "no-")), error.code
            assert path.read_bytes() == damaged
            refused += 1
        else:
            assert read_elsewhere(RegistryHive(str(path)), step) == 0
        assert [one.name for one in (root / windows_image.CONFIG).iterdir()] == [SYSTEM]
    assert refused > 50
