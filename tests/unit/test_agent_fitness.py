"""Storage that cannot be copied at one point in time is named, with what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from notfallserver.agent.disks.base import Protected, Volume
from notfallserver.agent.disks.dm import Target
from notfallserver.agent.disks.fitness import check_fitness
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine, Partition

DISK = Protected("vda", "/dev/vda", 1 << 8, 1 << 30, 512, True, (Volume("vda", 1 << 8, 0, 0, 1),))


def machine(*filesystems: str) -> Machine:
    parts = [
        Partition(number + 1, 0, 1, filesystem=kind) for number, kind in enumerate(filesystems)
    ]
    return Machine("db", disks=[Disk("vda", 1 << 30, partitions=parts)])


def test_usual_storage_is_fit(tmp_path: Path) -> None:
    usual = machine("ext4", "LVM2_member", "crypto_LUKS", "linux_raid_member", "swap", "")
    check_fitness(usual, [DISK], [], tmp_path)


def test_everything_that_is_not_fit_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(NotfallError) as caught:
        check_fitness(machine("ext4", "zfs_member", "bcache"), [DISK], [], tmp_path)
    assert caught.value.code == "storage-not-supported"
    assert "ZFS (vda, partition 2)" in caught.value.cause
    assert "bcache (vda, partition 3)" in caught.value.cause
    assert "zfs send" in caught.value.remedy


def add_device(block: Path, name: str, number: str, label: str = "") -> Path:
    """A device made of others, as sysfs shows it; ``label`` is its name by device-mapper."""
    node = block / name
    node.mkdir(parents=True)
    (node / "dev").write_text(f"{number}\n")
    if label:
        (node / "dm").mkdir()
        (node / "dm" / "name").write_text(f"{label}\n")
    return node


HERE = Protected("dm", "/dev/dm", os.makedev(0, 1), 1 << 30, 512, True, ())
ELSEWHERE = Protected("vdb", "/dev/vdb", 77, 1 << 30, 512, True, ())


@pytest.mark.parametrize(
    ("kind", "fields", "told"),
    [
        ("thin-pool", (), "thin pool vg-data"),
        ("cache", (), "cached volume vg-data"),
        ("writecache", (), "cached volume vg-data"),
        ("snapshot-merge", (), "merged"),
        ("vdo", (), "VDO"),
        ("integrity", ("J",), "integrity journal"),
        ("integrity", ("B",), ""),
        ("raid", ("reshape",), "reshaped"),
        ("raid", ("recover",), ""),
        ("linear", ("8:1", "0"), ""),
        ("snapshot-origin", (), ""),
    ],
)
def test_volumes_that_move_data_by_themselves_are_refused(
    tmp_path: Path, kind: str, fields: tuple[str, ...], told: str
) -> None:
    add_device(tmp_path, "dm-0", "0:1", "vg-data")

    def tables(device: int) -> list[Target]:
        return [Target(0, 512, "linear"), Target(512, 512, kind, fields)]

    check_fitness(machine("ext4"), [ELSEWHERE], [], tmp_path, tables)
    if not told:
        check_fitness(machine("ext4"), [HERE], [], tmp_path, tables)
        return
    with pytest.raises(NotfallError) as caught:
        check_fitness(machine("ext4"), [HERE], [], tmp_path, tables)
    assert told in caught.value.cause and caught.value.remedy


def test_a_volume_that_is_being_encrypted_anew_is_refused(tmp_path: Path) -> None:
    def tables(device: int) -> list[Target]:
        return [Target(0, 512, "crypt", ("8:1", "32768"))]

    add_device(tmp_path, "dm-0", "0:1", "secret")
    check_fitness(machine("crypto_LUKS"), [HERE], [], tmp_path, tables)
    add_device(tmp_path, "dm-1", "0:1", "secret-hotzone-forward")
    with pytest.raises(NotfallError, match=r"encrypted volume secret, .* encrypted anew"):
        check_fitness(machine("crypto_LUKS"), [HERE], [], tmp_path, tables)


@pytest.mark.parametrize(
    ("reshape", "policy", "told"),
    [("none", "bitmap", ""), ("none", "journal", "with journal"), ("512", "resync", "reshaped")],
)
def test_arrays_that_move_data_by_themselves_are_refused(
    tmp_path: Path, reshape: str, policy: str, told: str
) -> None:
    node = add_device(tmp_path, "md0", "0:1")
    (node / "md").mkdir()
    (node / "md" / "reshape_position").write_text(f"{reshape}\n")
    (node / "md" / "consistency_policy").write_text(f"{policy}\n")
    if not told:
        check_fitness(machine("ext4"), [HERE], [], tmp_path)
        return
    with pytest.raises(NotfallError, match=f"array md0.* {told}"):
        check_fitness(machine("ext4"), [HERE], [], tmp_path)
