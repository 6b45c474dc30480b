"""Storage that cannot be copied at one point in time is named, with what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from notfallserver.agent.disks.base import Protected, Volume
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


def test_a_thin_pool_on_a_protected_disk_is_refused(tmp_path: Path) -> None:
    for name, uuid in (("dm-0", "LVM-abc"), ("dm-1", "LVM-abc-tpool")):
        (tmp_path / name / "dm").mkdir(parents=True)
        (tmp_path / name / "dm" / "uuid").write_text(uuid + "\n")
        (tmp_path / name / "dm" / "name").write_text("vg-pool\n")
        (tmp_path / name / "dev").write_text("0:1\n")
    elsewhere = Protected("vdb", "/dev/vdb", 77, 1 << 30, 512, True, ())
    check_fitness(machine("ext4"), [elsewhere], [], tmp_path)
    here = Protected("dm", "/dev/dm", os.makedev(0, 1), 1 << 30, 512, True, ())
    with pytest.raises(NotfallError) as caught:
        check_fitness(machine("ext4"), [here], [], tmp_path)
    assert "thin pool vg-pool" in caught.value.cause
