"""What the agent finds on disks and sees of writes: real disks (loop devices); needs root."""

from __future__ import annotations

import mmap
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from agent_receiver import (
    command,
)
from source_machine import MIB, Machine

from notfallserver.agent.changes.ledger import watched_of
from notfallserver.agent.changes.tracker import Tracker
from notfallserver.agent.disks.direct import DirectDisk
from notfallserver.agent.disks.linux import machine_facts, protected_disks
from notfallserver.agent.disks.mounts import Mount
from notfallserver.agent.disks.runs import free_runs
from notfallserver.agent.disks.used import Census
from notfallserver.wire.blocks import BLOCK

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_a_mounted_fat_tells_its_free_clusters(machine: Machine) -> None:
    """Also where this machine's kernel has no vfat: the table is read from the disk."""
    disk = protected_disks([machine.one])[0]
    volume = disk.volumes[1]
    direct = DirectDisk(disk)
    census = Census([direct], [Mount(volume.device, str(machine.efi), "vfat", True)])
    try:
        free = free_runs(disk.size, census.free_space()[0])
    finally:
        census.close()
        direct.close()
    inside = [one for one in free if volume.start < one[0] * BLOCK < volume.start + volume.size]
    assert 20 * MIB < sum(count for _, count in inside) * BLOCK < volume.size


def test_facts_tell_what_lies_on_the_disks(machine: Machine) -> None:
    one, two = machine_facts(protected_disks(machine.disks)).disks
    assert (one.table, two.table) == ("dos", "gpt")
    assert [part.filesystem for part in one.partitions] == ["ext4", "vfat", "swap"]
    assert one.partitions[0].kind == "0x83"
    assert one.partitions[0].start == MIB
    assert one.partitions[0].mountpoint == str(machine.main)
    assert two.partitions[0].kind == "0fc63daf-8483-4772-8e79-3d69d8477de4"
    assert len(two.partitions[0].part_uuid) == len(two.partitions[0].uuid) == 36


def _direct(path: str, offset: int) -> None:
    handle = os.open(path, os.O_RDWR | os.O_DIRECT)
    with mmap.mmap(-1, 4096) as buffer:
        buffer.write(os.urandom(4096))
        os.pwrite(handle, buffer, offset)
    os.close(handle)


def _mapped(path: Path) -> None:
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as memory:
        memory[MIB : MIB + 100] = os.urandom(100)
        memory.flush()


@pytest.mark.parametrize("granule", [1, 8])
def test_the_tracker_sees_every_kind_of_write(machine: Machine, granule: int) -> None:
    disks = protected_disks(machine.disks)
    changes = Tracker([replace(one, granule=granule) for one in watched_of(disks)])
    swap = disks[0].volumes[2]
    behind = disks[1].volumes[0].start + disks[1].volumes[0].size + MIB
    os.sync()

    def file_blocks(path: Path) -> set[int]:
        command("sync", path)
        told = command("filefrag", "-b512", "-e", path).splitlines()
        start = disks[0].volumes[0].start
        line = next(one for one in told if one.strip().startswith("0:"))
        return {(start + int(line.split(":")[2].split("..")[0]) * 512) // BLOCK}

    def write_file() -> None:
        with (machine.main / "file1").open("r+b") as stream:
            stream.write(b"changed")
            stream.flush()
            os.fsync(stream.fileno())

    target = machine.main / "file2"
    ways: list[tuple[Callable[[], object], int, set[int]]] = [
        (write_file, 0, file_blocks(machine.main / "file1")),
        (lambda: _direct(str(target), 0), 0, file_blocks(target)),
        (lambda: _mapped(target), 0, {next(iter(file_blocks(target))) + MIB // BLOCK}),
        (lambda: _direct(f"{machine.one}p3", 5 * MIB), 0, {(swap.start + 5 * MIB) // BLOCK}),
        (lambda: _direct(machine.two, behind), 1, {behind // BLOCK}),
        (
            lambda: command(
                "dd",
                "if=/dev/zero",
                f"of={machine.one}p3",
                "bs=1M",
                "count=3",
                "conv=fsync",
                stderr=subprocess.DEVNULL,
            ),
            0,
            set(range(-(-swap.start // BLOCK), (swap.start + 3 * MIB) // BLOCK)),
        ),
        (
            lambda: command("blkdiscard", "-f", "-o", 0, "-l", 30 * MIB, f"{machine.one}p3"),
            0,
            set(range(-(-swap.start // BLOCK), (swap.start + 30 * MIB) // BLOCK)),
        ),
    ]
    try:
        changes.take()
        changes.take()
        for number, (write, disk, expected) in enumerate(ways):
            write()
            for _ in range(2):  # each mark is told twice
                marks = changes.take()
                found = {b for first, n in marks[disk] for b in range(first, first + n)}
                assert expected <= found, f"way {number}"
            os.sync()
        changes.take()
        changes.take()
        assert not any(changes.take())
        assert changes.broken() == ""
    finally:
        changes.close()
