"""The recovery's plan never takes a disk that nobody meant, and says what becomes different."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from notfallserver.server.cycle.recovery.mirrors import find_mirrors, read_member
from notfallserver.server.cycle.recovery.plan import (
    DiskPlan,
    Known,
    needs_measuring,
    only_disks,
    plan_recovery,
)
from notfallserver.server.pool.version import DiskImage, Manifest, Version
from notfallserver.server.web.language import speech
from notfallserver.server.web.words.plans import plan_words
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine, Partition

GIB = 1 << 30
MIB = 1 << 20


def disk(name: str, gib: int, used: bool = False, sector: int = 512) -> Disk:
    partitions = []
    if used:
        size = gib * GIB - 2 * MIB
        partitions = [
            Partition(1, MIB, size, "0x83", "ext4", mountpoint="/" if name == "vda" else "")
        ]
    return Disk(name, gib * GIB, sector, name, table="dos" if used else "", partitions=partitions)


ORIGINAL = Machine("shop", disks=[disk("vda", 3, used=True), disk("vdb", 2, used=True)])
LEAST = {(0, 1): GIB, (1, 1): GIB}


def refused(
    target: Machine, named: dict[str, str] | None = None, known: Known | None = None
) -> NotfallError:
    with pytest.raises(NotfallError) as caught:
        plan_recovery(ORIGINAL, target, named or {}, known=known)
    return caught.value


def in_words(plan: DiskPlan) -> list[str]:
    """All that is told of it; each text is understood and has its German."""
    texts = [text for one in plan.moves for text in one.changes] + list(plan.warnings)
    for text in texts:
        assert plan_words(text).text != "%(text)s", text
        assert speech("de").words(plan_words(text)) != speech("en").words(plan_words(text))
    return texts


def test_larger_disks_are_matched_by_size() -> None:
    plan = plan_recovery(ORIGINAL, Machine("", disks=[disk("sda", 3), disk("sdb", 4)]), {})
    assert [(one.originals[0].name, one.disk.name) for one in plan.moves] == [
        ("vda", "sdb"),
        ("vdb", "sda"),
    ]
    assert plan.shape(ORIGINAL) is None


def test_disk_with_content_is_left_when_empty_ones_suffice() -> None:
    target = Machine("", disks=[disk("sda", 9, used=True), disk("sdb", 3), disk("sdc", 2)])
    plan = plan_recovery(ORIGINAL, target, {})
    assert {one.disk.name for one in plan.moves} == {"sdb", "sdc"}
    assert [one.name for one in plan.untouched] == ["sda"]


def test_unclear_disks_must_be_named() -> None:
    target = Machine("", disks=[disk("sda", 9), disk("sdb", 3), disk("sdc", 2)])
    assert refused(target).code == "disks-not-clear"
    plan = plan_recovery(ORIGINAL, target, {"vda": "sdb", "vdb": "sdc"})
    assert [one.disk.name for one in plan.moves] == ["sdb", "sdc"]
    plan = plan_recovery(ORIGINAL, target, {"vda": "sda", "vdb": "sda"})
    assert [one.name for one in plan.untouched] == ["sdb", "sdc"]


def test_a_smaller_disk_is_taken_where_the_contents_fit() -> None:
    target = Machine("", disks=[disk("sda", 3), disk("sdb", 1)])
    assert needs_measuring(ORIGINAL, target, {}, {})
    error = refused(target)  # nobody measured
    assert error.code == "target-disk-too-small" and "sdb" in error.cause
    known = Known(least={(1, 1): GIB})
    error = refused(target, known=known)
    assert error.code == "target-disk-too-small" and "At least 1.0 GiB" in error.cause
    plan = plan_recovery(ORIGINAL, target, {}, known=Known(least={(1, 1): GIB // 2}))
    texts = in_words(plan)
    assert texts[0] == "partition 1 (ext4) shrinks from 2.0 GiB to 1.0 GiB" and len(texts) == 2
    assert plan.shape(ORIGINAL) == [
        {"sources": [0], "size": 3 * GIB},
        {"sources": [1], "size": GIB},
    ]


def test_what_has_no_filesystem_is_not_made_smaller() -> None:
    original = Machine("shop", disks=[Disk("vda", 3 * GIB)])
    with pytest.raises(NotfallError) as caught:
        plan_recovery(original, Machine("", disks=[disk("sda", 2)]), {})
    assert caught.value.code == "target-disk-too-small"


def test_two_disks_go_onto_one() -> None:
    target = Machine("", disks=[disk("sda", 9)])
    assert not needs_measuring(ORIGINAL, target, {}, {})
    plan = plan_recovery(ORIGINAL, target, {})
    assert in_words(plan) == ["partition 1 of vdb becomes partition 2"]
    assert plan.shape(ORIGINAL) == [{"sources": [0, 1], "size": 9 * GIB}]
    assert plan.orders() == [{"index": 0, "serial": "sda", "name": "sda", "size": 9 * GIB}]
    told = only_disks(ORIGINAL, plan.shape(ORIGINAL))
    assert [one.name for one in told.disks] == ["vda"]
    small = Machine("", disks=[disk("sda", 3)])
    assert refused(small).code == "target-disk-too-small"
    texts = in_words(plan_recovery(ORIGINAL, small, {}, known=Known(least=LEAST)))
    assert sum("shrinks" in one for one in texts) == 2
    three = Machine("shop", disks=[*ORIGINAL.disks, disk("vdc", 2, used=True)])
    with pytest.raises(NotfallError) as caught:
        plan_recovery(three, Machine("", disks=[disk("sda", 9), disk("sdb", 9)]), {})
    assert caught.value.code == "too-few-disks"


def test_growing_is_told_and_done_only_on_request() -> None:
    target = Machine("", disks=[disk("sda", 3), disk("sdb", 4)])
    plan = plan_recovery(ORIGINAL, target, {})
    assert in_words(plan) == [] and not plan.grow
    assert [one.can_grow for one in plan.moves] == [True, True]
    plan = plan_recovery(ORIGINAL, target, {}, growing=True)
    assert plan.grow and plan.shape(ORIGINAL) is None
    assert in_words(plan) == [
        "partition 1 (ext4) grows from 3.0 GiB to 4.0 GiB",
        "partition 1 (ext4) grows from 2.0 GiB to 3.0 GiB",
    ]
    same = Machine("", disks=[disk("sda", 3), disk("sdb", 2)])
    plan = plan_recovery(ORIGINAL, same, {}, growing=True)
    assert not plan.grow and len(in_words(plan)) == 1


def test_another_firmware_is_taken_where_the_copy_starts_by_both() -> None:
    uefi = Machine("", firmware="uefi", disks=[disk("sda", 3), disk("sdb", 2)])
    assert refused(uefi).code == "firmware-differs"
    assert refused(uefi, known=Known(boots_by=["bios"])).code == "firmware-differs"
    plan = plan_recovery(ORIGINAL, uefi, {}, known=Known(boots_by=["bios", "uefi"]))
    assert len(in_words(plan)) == 1 and "starts by UEFI" in plan.warnings[0]


def mirrored(name: str) -> Disk:
    part = Partition(1, MIB, GIB, "0xfd", "linux_raid_member", "array")
    return Disk(name, 2 * GIB, serial=name, table="dos", partitions=[part])


def test_a_mirror_goes_onto_one_disk_or_two() -> None:
    original = Machine("shop", disks=[mirrored("vda"), mirrored("vdb")])
    known = Known(mirrors={0: frozenset({1}), 1: frozenset({0})})
    both = plan_recovery(
        original, Machine("", disks=[disk("sda", 2), disk("sdb", 3)]), {}, known=known
    )
    assert both.shape(original) is None and in_words(both) == []
    one = plan_recovery(original, Machine("", disks=[disk("sda", 2)]), {}, known=known)
    assert one.shape(original) == [{"sources": [0], "size": 2 * GIB}]
    (warning,) = in_words(one)
    assert warning.startswith("vdb is left out")
    two = Machine("", disks=[disk("sda", 2), disk("sdb", 9)])
    named = plan_recovery(original, two, {"vdb": "sda"}, known=known)
    assert named.shape(original) == [{"sources": [1], "size": 2 * GIB}]
    assert [one.name for one in named.untouched] == ["sdb"]
    with pytest.raises(NotfallError) as caught:
        plan_recovery(original, two, {"vdb": "sda"})
    assert caught.value.code == "bad-disk-names"


def superblock(
    level: int = 1, role: int = 0, features: int = 0, synced: int = (1 << 64) - 1
) -> bytes:
    """As mdadm writes it (version 1.2)."""
    block = bytearray(4096)
    struct.pack_into("<III", block, 0, 0xA92B4EFC, 1, features)
    block[16:32] = b"0123456789abcdef"
    struct.pack_into("<i", block, 72, level)
    struct.pack_into("<I", block, 92, 2)
    struct.pack_into("<I", block, 160, 1)
    struct.pack_into("<QQ", block, 200, 17, synced)
    struct.pack_into("<I", block, 220, 128)
    struct.pack_into("<4H", block, 256, 0, role, 0xFFFF, 0xFFFF)
    return bytes(block)


def test_only_sound_members_of_a_mirror_count() -> None:
    found = read_member(superblock(role=1))
    assert found is not None
    assert (found.array, found.events, found.role, found.synced) == (
        b"0123456789abcdef",
        17,
        1,
        True,
    )
    dirty = read_member(superblock(synced=0))
    assert dirty is not None and not dirty.synced
    for block in (
        *(superblock(level=0), superblock(level=5), superblock(role=0xFFFE)),
        *(superblock(role=0xFFFF), superblock(features=2), bytes(4096), b"", superblock()[:100]),
    ):
        assert read_member(block) is None


def test_swap_beside_a_member_may_be_left_out_where_there_is_other(tmp_path: Path) -> None:
    for at in (0, 1):
        with (tmp_path / f"disk{at}.raw").open("xb") as raw:
            raw.truncate(2 * GIB)
            raw.seek(MIB + 4096)
            raw.write(superblock(role=at))

    def mirrors(*further: str) -> dict[int, frozenset[int]]:
        disks = []
        for at, filesystem in enumerate(further):
            part = Partition(2, MIB + GIB, 64 * MIB, "0x82", filesystem)
            plain = mirrored(f"vd{'ab'[at]}")
            disks.append(replace(plain, partitions=[*plain.partitions, part]))
        images = tuple(DiskImage(at, 2 * GIB, 1, "") for at in (0, 1))
        names = ("uuid", "shop", "20260101T000000.000Z", "capture", "crash", "")
        machine = Machine("shop", disks=disks)
        manifest = Manifest(*names, machine, images, started_at="", sealed_at="")
        return find_mirrors(Version(tmp_path, manifest))

    assert mirrors("swap", "swap") == {0: frozenset({1}), 1: frozenset({0})}
    # the only swap there is, and what nobody knows or is data, is never left out
    for further in (("ext4", "swap"), ("", "swap"), ("swap", "")):
        assert mirrors(*further) == {}


def test_other_refusals_name_their_reason() -> None:
    assert refused(Machine("")).code == "too-few-disks"
    big = Machine("", disks=[disk("sda", 3, sector=4096), disk("sdb", 2)])
    assert refused(big).code == "sector-size-differs"
    two = Machine("", disks=[disk("sda", 3), disk("sdb", 3)])
    for named in ({"vda": "sda"}, {"vda": "sda", "vdb": "sdx"}, {"vda": "sda", "xxx": "sdb"}):
        assert refused(two, named).code == "bad-disk-names"
    used = Machine("", disks=[disk(f"sd{one}", 3, used=True) for one in "abc"])
    assert refused(used).code == "disks-not-clear"
