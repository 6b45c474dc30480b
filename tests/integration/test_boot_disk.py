"""A version on a disk to take along: the guards, and what is on the disk at each moment."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from agent_receiver import command, loop_device, mounted
from carry_scene import SIZES, Scene, add_version

from notfall_lab.patience import PATIENCE_S
from notfallserver.server.cycle import boot_disks
from notfallserver.server.cycle.boot_disks import Wish
from notfallserver.server.media import block_devices, boot_disk
from notfallserver.server.media.block_devices import Target, find_disk
from notfallserver.server.records.jobs import Job
from notfallserver.wire.blocks import BLOCK, is_zero
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
MIB = 1 << 20
SIZE = SIZES[1] * 4
TABLE = f"label: gpt\nsector-size: 512\nstart=2048, size={8 * 2048}\nsize=+\n"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    image = tmp_path / "image"
    with image.open("wb") as stream:
        stream.truncate(SIZE)
    subprocess.run(["sfdisk", "-q", str(image)], input=TABLE, text=True, check=True)
    with image.open("r+b") as stream:
        stream.seek(2 * MIB)
        stream.write(os.urandom(3 * MIB + 4096))
    raw = image.read_bytes()
    blocks = [raw[at : at + BLOCK] for at in range(0, SIZE, BLOCK)]
    used = [number for number, block in enumerate(blocks) if not is_zero(block)]
    store = made.pool.add_primary("7d1f7c1e-0b1a-4a5e-9d3f-0000000000aa", "disky")
    made.catalogue.primaries.add_agentless(store.uuid, "disky", 15, "ada")
    disks = [Disk("sda", SIZE)]
    made.version = add_version(store, {0: used}, of=lambda d, n, s: blocks[n], disks=disks)
    made.uuid, made.store = store.uuid, store
    yield made
    made.close()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[str]:
    """A larger disk that held something before, from its first byte to its last."""
    image = tmp_path / "target"
    image.write_bytes(os.urandom(SIZE + 5 * MIB))
    with loop_device(image) as device:
        yield device


def named(path: str, **more: Any) -> Target:
    return Target(path, find_disk(path).confirmation, **{"internal": True, **more})


def begin(scene: Scene, *targets: Target, **more: Any) -> Job:
    return scene.boot_disks.begin(scene.row, Wish("", targets, **more), "ada")


def refused(scene: Scene, *targets: Target, **more: Any) -> str:
    with pytest.raises(NotfallError) as caught:
        begin(scene, *targets, **more)
    return caught.value.code


def content(path: str) -> bytes:
    subprocess.run(["blockdev", "--flushbufs", path], check=True)
    return Path(path).read_bytes()


def test_the_larger_disk_holds_the_same_and_its_table_fits_it(scene: Scene, target: str) -> None:
    job = scene.end_of(begin(scene, named(target)))
    assert job.state == "done", job.error
    disk, raw = content(target), scene.version.raw(0).read_bytes()
    assert disk[MIB:SIZE] == raw[MIB:]  # also where it has holes
    assert disk[1024:MIB] == raw[1024:MIB]  # all but the first table's header
    told = command("sgdisk", "-v", target)
    assert "No problems found" in told, told
    parts = json.loads(command("sfdisk", "--json", target))["partitiontable"]
    before = json.loads(command("sfdisk", "--json", str(scene.version.raw(0))))["partitiontable"]
    assert [one["uuid"] for one in parts["partitions"]] == [
        one["uuid"] for one in before["partitions"]
    ]
    assert parts["lastlba"] > before["lastlba"]
    assert scene.pins() == {}


def test_a_disk_of_the_same_size_is_the_same_to_the_last_byte(scene: Scene, tmp_path: Path) -> None:
    image = tmp_path / "same"
    image.write_bytes(os.urandom(SIZE))
    with loop_device(image) as device:
        job = scene.end_of(begin(scene, named(device)))
        assert job.state == "done", job.error
        assert content(device) == scene.version.raw(0).read_bytes()


def test_what_is_used_is_never_written(scene: Scene, target: str, tmp_path: Path) -> None:
    before = content(target)
    handle = os.open(target, os.O_RDONLY | os.O_EXCL)
    try:
        assert refused(scene, named(target)) == "export-disk-busy"
    finally:
        os.close(handle)
    image = tmp_path / "fs"
    image.write_bytes(bytes(SIZE + MIB))
    command("mkfs.ext4", "-q", str(image))
    with loop_device(image) as device, mounted(device, tmp_path / "mnt"):
        assert str(tmp_path / "mnt") in find_disk(device).busy
        assert refused(scene, named(device)) == "export-disk-busy"
    assert content(target) == before


def test_each_disk_must_be_named_by_what_it_shows(scene: Scene, target: str) -> None:
    right = named(target)
    before = content(target)
    assert refused(scene, Target(target, "", True)) == "disk-not-confirmed"
    assert refused(scene, Target(target, right.confirm + "0", True)) == "disk-not-confirmed"
    assert refused(scene, Target(target, right.confirm)) == "disk-internal"
    assert refused(scene, Target("/dev/null", "", True)) == "disk-unknown"
    assert refused(scene) == refused(scene, right, right) == "disk-count"
    assert refused(scene, right, disks=(1,)) == "disk-count"
    assert content(target) == before


def test_a_disk_that_was_changed_meanwhile_is_not_written(
    scene: Scene, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(target)
    looks: list[str] = []
    find = block_devices.find_disk

    def other(path: str) -> block_devices.BlockDevice:
        found = find(path)
        looks.append(path)
        if len(looks) > 1:  # pulled out, and another one plugged in under the same name
            return block_devices.BlockDevice(**{**vars(found), "attached": "another"})
        return found

    right = named(target)
    monkeypatch.setattr(boot_disks, "find_disk", other)
    job = scene.end_of(begin(scene, right))
    assert job.error is not None and job.error["code"] == "export-disk-changed"
    assert content(target) == before


def test_too_small_or_other_sectors(scene: Scene, tmp_path: Path) -> None:
    image = tmp_path / "other"
    image.write_bytes(bytes(SIZE - 4096))
    with loop_device(image) as device:
        assert refused(scene, named(device)) == "disk-small"
    image.write_bytes(bytes(SIZE + MIB))
    with loop_device(image, "-b", "4096") as device:
        assert refused(scene, named(device)) == "disk-sector"


def test_a_disk_that_was_left_half_written_starts_nowhere(
    scene: Scene, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, reached = boot_disk._write_rest, []

    def slow(image: Any, disk: Any, source: int, tell: Any) -> int:
        written = write(image, disk, source, tell)
        reached.append(written)
        for _ in range(2000):
            tell(0)
            time.sleep(0.01)
        return written

    monkeypatch.setattr(boot_disk, "_write_rest", slow)
    job = begin(scene, named(target))
    until = time.monotonic() + PATIENCE_S
    while not reached:
        assert time.monotonic() < until
        time.sleep(0.01)
    scene.runner.cancel(job.id, "ada")
    assert scene.end_of(job).state == "cancelled"
    disk = content(target)
    assert not any(disk[:MIB]) and not any(disk[-MIB:])
    with suppress(subprocess.CalledProcessError):
        assert not command("blkid", "-p", "-o", "value", "-s", "PTTYPE", target)
    assert scene.pins() == {}


def test_a_disk_that_keeps_something_else_is_found(
    scene: Scene, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = boot_disk._Disk.write

    def forgets(self: Any, at: int, data: bytes) -> None:
        if at != 4 * MIB + MIB:
            write(self, at, data)

    monkeypatch.setattr(boot_disk._Disk, "write", forgets)
    job = scene.end_of(begin(scene, named(target)))
    assert job.error is not None and job.error["code"] == "disk-differs"
    assert not any(content(target)[:MIB])


def test_a_damaged_version_makes_no_disk_that_starts(scene: Scene, target: str) -> None:
    with scene.version.raw(0).open("r+b") as stream:
        stream.seek(512)  # the table's header: in the part that is written last
        stream.write(b"rotten")
    job = scene.end_of(begin(scene, named(target)))
    assert job.error is not None and job.error["code"] == "copy-damaged"
    assert not any(content(target)[:MIB])
