"""Filesystems of a copy are checked as after their next start: real ones, through loop devices."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from agent_receiver import command, loop_device, mounted, partition
from source_machine import MIB

from notfallserver.guest.check import (
    CHECKERS,
    CLEAN,
    DAMAGED,
    SKIPPED,
    Checked,
    Comparison,
    check_filesystems,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

TABLE = """label: gpt
start=1M, size=64M
size=320M
size=160M
size=40M
size=8M
size=8M
"""
MAKE = (
    ("mkfs.ext4", "-q"),
    ("mkfs.xfs", "-q"),
    ("mkfs.btrfs", "-q"),
    ("mkfs.vfat", "-F", "32"),
    ("mkswap",),
)
KINDS = ["ext4", "xfs", "btrfs", "vfat", "swap", ""]
MOUNTED = 3
CHECKED = 4
"""Not every kernel that tests run on knows FAT."""


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk as it is when the power goes: all its filesystems are mounted, and were written to."""
    folder = tmp_path_factory.mktemp("torn")
    image = folder / "disk.img"
    partition(image, 640 * MIB, TABLE)
    with ExitStack() as stack:
        device = stack.enter_context(loop_device(image))
        for number, make in enumerate(MAKE, 1):
            command(*make, f"{device}p{number}")
        places = [
            stack.enter_context(mounted(f"{device}p{number}", folder / f"m{number}"))
            for number in range(1, MOUNTED + 1)
        ]
        for place in places:
            for number in range(200):
                (place / f"file{number}").write_bytes(os.urandom(3000))
            for number in range(0, 200, 3):
                (place / f"file{number}").unlink()
        _fill_fat(folder, f"{device}p4")
        command("sync")
        for place in places:  # in the logs only, of those that have one
            (place / "file1").rename(place / "renamed")
            handle = os.open(place, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
        copy = folder / "torn.img"
        command("cp", "--sparse=always", image, copy)
    yield copy


def _fill_fat(folder: Path, path: str) -> None:
    """As it is while it is mounted: marked as in use in the boot sector, but not in its copy."""
    for number in range(8):
        file = folder / f"file{number}"
        file.write_bytes(os.urandom(3000))
        command("mcopy", "-i", path, file, "::")
    with open(path, "r+b") as device:
        device.seek(0x41)
        device.write(b"\1")


def checked(image: Path, copy: Path) -> dict[str, Checked]:
    shutil.copyfile(image, copy)
    with loop_device(copy) as device:
        found = check_filesystems([device], Comparison())
    assert [one.volume.filesystem for one in found] == KINDS
    return {one.volume.filesystem: one for one in found}


def test_a_log_that_was_not_played_back_is_no_damage(torn: Path, tmp_path: Path) -> None:
    found = checked(torn, tmp_path / "copy")
    told = {kind: (one.state, one.told) for kind, one in found.items()}
    assert all(told[kind] == (CLEAN, "") for kind in KINDS[:CHECKED]), told
    assert told["swap"][0] == told[""][0] == SKIPPED
    with loop_device(torn) as device:  # as it is, it is taken for damage
        for number, kind in ((2, "xfs"), (4, "vfat")):
            with pytest.raises(subprocess.CalledProcessError):
                command(*CHECKERS[kind], f"{device}p{number}")


@pytest.mark.parametrize("kind", KINDS[:CHECKED])
def test_damage_is_found_where_it_is(torn: Path, tmp_path: Path, kind: str) -> None:
    hurt = tmp_path / "hurt"
    shutil.copyfile(torn, hurt)
    with loop_device(hurt) as device:
        path = f"{device}p{KINDS.index(kind) + 1}"
        if kind != "vfat":
            with mounted(path, tmp_path / "once"):
                pass  # what a log still holds must not heal it
        _damage(kind, path)
    found = checked(hurt, tmp_path / "copy")
    assert {name for name, one in found.items() if one.state == DAMAGED} == {kind}, found
    assert found[kind].told


def _damage(kind: str, path: str) -> None:
    if kind == "ext4":
        command("debugfs", "-w", "-R", "set_inode_field file4 block[0] 99999999", path)
    elif kind == "xfs":
        command("xfs_db", "-x", "-c", "agf 0", "-c", "write -d freeblks 1", path)
    elif kind == "btrfs":
        _overwrite_leaf(path)
    else:
        _cross_link(path)


def _overwrite_leaf(path: str) -> None:
    """One of both copies of the tree of files goes bad, and the other one too."""
    told = command("btrfs", "inspect-internal", "dump-tree", "-t", "fs", path)
    logical = next(line.split()[1] for line in told.splitlines() if line.startswith("leaf"))
    places = command("btrfs-map-logical", "-l", logical, path)
    with open(path, "r+b") as device:
        for line in places.splitlines():
            device.seek(int(line.split("physical ")[1].split()[0]) + 4096)
            device.write(b"\xa5" * 4096)


def _cross_link(path: str) -> None:
    """Both tables of a FAT lose the chain of a file: its size does not fit its clusters."""
    with open(path, "r+b") as device:
        boot = device.read(90)
        reserved, tables = int.from_bytes(boot[14:16], "little"), boot[16]
        length = int.from_bytes(boot[36:40], "little")
        for number in range(tables):
            device.seek((reserved + number * length) * 512 + 4 * 5)
            device.write(bytes(4 * 10))
