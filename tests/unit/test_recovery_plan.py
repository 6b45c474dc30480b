"""The recovery's plan never takes a disk that nobody meant."""

from __future__ import annotations

import pytest

from notfallserver.server.cycle.recovery.plan import plan_recovery
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine, Partition

GIB = 1 << 30


def disk(name: str, gib: int, used: bool = False, sector: int = 512) -> Disk:
    partitions = [Partition(1, 1 << 20, GIB)] if used else []
    return Disk(name, gib * GIB, sector, name, table="dos" if used else "", partitions=partitions)


ORIGINAL = Machine("shop", disks=[disk("vda", 3, used=True), disk("vdb", 2, used=True)])


def refused(target: Machine, named: dict[str, str] | None = None) -> NotfallError:
    with pytest.raises(NotfallError) as caught:
        plan_recovery(ORIGINAL, target, named or {})
    return caught.value


def test_larger_disks_are_matched_by_size() -> None:
    plan = plan_recovery(ORIGINAL, Machine("", disks=[disk("sda", 3), disk("sdb", 4)]), {})
    assert [(one.original.name, one.disk.name) for one in plan.pairs] == [
        ("vda", "sdb"),
        ("vdb", "sda"),
    ]


def test_disk_with_content_is_left_when_empty_ones_suffice() -> None:
    target = Machine("", disks=[disk("sda", 9, used=True), disk("sdb", 3), disk("sdc", 2)])
    plan = plan_recovery(ORIGINAL, target, {})
    assert {one.disk.name for one in plan.pairs} == {"sdb", "sdc"}
    assert [one.name for one in plan.untouched] == ["sda"]


def test_unclear_disks_must_be_named() -> None:
    target = Machine("", disks=[disk("sda", 9), disk("sdb", 3), disk("sdc", 2)])
    assert refused(target).code == "disks-not-clear"
    plan = plan_recovery(ORIGINAL, target, {"vda": "sdb", "vdb": "sdc"})
    assert [one.disk.name for one in plan.pairs] == ["sdb", "sdc"]


def test_smaller_disk_is_refused() -> None:
    error = refused(Machine("", disks=[disk("sda", 3), disk("sdb", 1)]))
    assert error.code == "target-disk-too-small"
    assert "sdb" in error.cause


def test_other_refusals_name_their_reason() -> None:
    assert refused(Machine("", disks=[disk("sda", 3)])).code == "too-few-disks"
    uefi = Machine("", firmware="uefi", disks=[disk("sda", 3), disk("sdb", 2)])
    assert refused(uefi).code == "firmware-differs"
    big = Machine("", disks=[disk("sda", 3, sector=4096), disk("sdb", 2)])
    assert refused(big).code == "sector-size-differs"
    two = Machine("", disks=[disk("sda", 3), disk("sdb", 3)])
    for named in ({"vda": "sda"}, {"vda": "sda", "vdb": "sda"}, {"vda": "sda", "xxx": "sdb"}):
        assert refused(two, named).code == "bad-disk-names"
