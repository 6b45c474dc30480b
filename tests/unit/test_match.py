"""A disk is recognised by what is on it, wherever it is plugged in."""

from __future__ import annotations

from notfallserver.server.pool.match import match_disks
from notfallserver.wire.facts import Disk, Partition


def disk(name: str, *uuids: str, serial: str = "") -> Disk:
    partitions = [Partition(at + 1, 1 << 20, 1 << 30, uuid=one) for at, one in enumerate(uuids)]
    return Disk(name, 1 << 32, serial=serial, partitions=partitions)


def test_same_machine_is_matched_in_order() -> None:
    disks = [disk("vda", "a"), disk("vdb", "b")]
    assert match_disks(disks, disks) == [0, 1]


def test_disk_before_the_others_moves_none_of_them() -> None:
    old = [disk("vda", "a", "swap"), disk("vdb", "b")]
    new = [disk("sda", "foreign"), disk("nvme0n1", "a", "swap"), disk("nvme1n1", "b")]
    assert match_disks(old, new) == [None, 0, 1]


def test_swapped_disks_are_found() -> None:
    old = [disk("vda", "a"), disk("vdb", "b")]
    assert match_disks(old, list(reversed(old))) == [1, 0]


def test_blank_disks_go_by_serial_then_by_place() -> None:
    old = [disk("vda", serial="one"), disk("vdb")]
    assert match_disks(old, [disk("vda"), disk("vdb", serial="one")]) == [None, 0]
    assert match_disks(old, [disk("vda"), disk("vdb")]) == [0, 1]


def test_cloned_disks_stay_where_they_are() -> None:
    twins = [disk("vda", "a"), disk("vdb", "a")]
    assert match_disks(twins, twins) == [0, 1]
    assert match_disks([], twins) == [None, None]
