"""From a filesystem's device down to the disks: the arithmetic, the kernel's tables, sysfs."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notfallserver.agent.disks import dm, md
from notfallserver.agent.disks.base import Protected, Volume
from notfallserver.agent.disks.direct import DirectDisk
from notfallserver.agent.disks.dm import Target
from notfallserver.agent.disks.layers import Segment, compose, project
from notfallserver.agent.disks.stack import Stack
from notfallserver.agent.disks.swap import active_swaps, is_swap

A, B, LOWER = 1, 2, 3
MIB = 1 << 20
segments = st.lists(
    st.builds(Segment, st.integers(0, 40), st.integers(1, 20), st.just(LOWER), st.integers(0, 40)),
    max_size=5,
)
lower_segments = st.lists(
    st.builds(Segment, st.integers(0, 40), st.integers(1, 20), st.sampled_from([A, B]),
              st.integers(0, 40)),
    max_size=5,
)  # fmt: skip
extents = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=5)


def places(byte: int, parts: list[Segment]) -> set[tuple[int, int]]:
    """Where one byte lies, told byte by byte."""
    return {
        (one.below, one.at + byte - one.start)
        for one in parts
        if one.start <= byte < one.start + one.length
    }


@given(segments, lower_segments)
def test_composing_is_going_down_twice(upper: list[Segment], lower: list[Segment]) -> None:
    both = compose(upper, {LOWER: lower})
    for byte in range(70):
        twice = {end for _, at in places(byte, upper) for end in places(at, lower)}
        assert places(byte, both) == twice


@given(extents, lower_segments)
def test_a_projected_extent_has_the_bytes_of_the_extent(
    free: list[tuple[int, int]], parts: list[Segment]
) -> None:
    expected = {
        place
        for start, length in free
        for byte in range(start, start + length)
        for place in places(byte, parts)
    }
    found = {
        (device, byte)
        for device, told in project(free, parts).items()
        for start, length in told
        for byte in range(start, start + length)
    }
    assert found == expected


def table(*targets: tuple[int, int, str, str]) -> bytearray:
    """What the kernel answers; starts and lengths in sectors."""
    body = b""
    for start, length, kind, text in targets:
        told = text.encode() + b"\0"
        told += bytes(-len(told) % 8)
        following = len(body) + 40 + len(told)
        body += struct.pack("=2Qi I16s", start, length, 0, following, kind.encode()) + told
    head = struct.pack("=3I2IIi3IQ128s129s7x", 4, 0, 0, 312 + len(body), 312, len(targets), 0, 0,
                       0, 0, 0, b"", b"")  # fmt: skip
    return bytearray(head + body)


def test_linear_and_encrypted_targets_tell_where_they_lie() -> None:
    key = "00112233445566778899aabbccddeeff"
    told = dm.parse_table(
        table(
            (0, 2048, "linear", "8:2 4096"),
            (2048, 8, "crypt", f"aes-xts-plain64 {key} 0 253:7 32768 2 allow_discards x"),
            (2056, 8, "striped", "2 128 8:2 0 8:3 0"),
            (2064, 8, "linear", "broken"),
        )
    )
    assert dm.segments_of(told) == [
        Segment(0, 2048 * 512, os.makedev(8, 2), 4096 * 512),
        Segment(2048 * 512, 8 * 512, os.makedev(253, 7), 32768 * 512),
    ]
    assert key not in repr(told)
    assert [one.kind for one in told] == ["linear", "crypt", "striped", "linear"]


def test_of_a_raid_its_status_tells_what_it_is_doing() -> None:
    status = table((0, 8, "raid", "raid5_ls 3 AAA 4096/8192 reshape 0 2048 -"))
    assert dm.parse_table(status, {"raid": (4,)}) == [Target(0, 4096, "raid", ("reshape",))]
    old = table((0, 8, "raid", "raid5_ls 3 AAA 4096/8192"))  # kernels before 3.10
    assert dm.parse_table(old, {"raid": (4,)}) == [Target(0, 4096, "raid")]


def test_an_answer_that_makes_no_sense_is_refused() -> None:
    broken = table((0, 8, "linear", "8:2 0"))
    struct.pack_into("=I", broken, 20, 3)  # more targets than there are
    with pytest.raises(ValueError, match="outside"):
        dm.parse_table(broken[:380])


def make_array(node: Path, level: str = "raid1", reshape: str = "none") -> None:
    (node / "md").mkdir(parents=True)
    (node / "size").write_text("2048\n")
    for name, text in (("level", level), ("reshape_position", reshape)):
        (node / "md" / name).write_text(f"{text}\n")
    for number, state in enumerate(("in_sync", "in_sync,write_mostly", "spare", "faulty")):
        member = node / "md" / f"dev-sd{number}"
        (member / "block").mkdir(parents=True)
        (member / "block" / "dev").write_text(f"8:{number}\n")
        (member / "state").write_text(f"{state}\n")
        (member / "offset").write_text("264\n")


def test_a_mirror_lies_on_each_of_its_sound_members(tmp_path: Path) -> None:
    make_array(tmp_path)
    assert md.segments_of(tmp_path) == [
        Segment(0, MIB, os.makedev(8, number), 264 * 512) for number in (0, 1)
    ]


@pytest.mark.parametrize(("level", "reshape"), [("raid5", "none"), ("raid1", "1024")])
def test_other_arrays_tell_nothing(tmp_path: Path, level: str, reshape: str) -> None:
    make_array(tmp_path, level, reshape)
    assert md.segments_of(tmp_path) == []
    assert md.segments_of(tmp_path / "absent") == []


def test_it_is_told_how_far_the_members_of_an_array_are_filled(tmp_path: Path) -> None:
    make_array(tmp_path / "md0")
    array = tmp_path / "md0" / "md"
    (array / "resync_start").write_text("none\n")
    for number, told in ((0, "none"), (2, "81920")):
        (array / f"dev-sd{number}" / "recovery_start").write_text(f"{told}\n")
    before = md.filled_until(tmp_path)
    assert before == ["md0 dev-sd0 none", "md0 dev-sd2 81920", "md0 resync_start none"]
    assert md.filled_until(tmp_path) == before
    (array / "dev-sd2" / "recovery_start").write_text("163840\n")
    assert md.filled_until(tmp_path) != before
    assert md.filled_until(tmp_path / "absent") == []


class Tables(dm.Mapper):
    """A device-mapper with these tables."""

    def __init__(self, tables: dict[int, list[dm.Target]]) -> None:
        self._tables = tables

    def table(self, device: int) -> list[dm.Target]:
        return self._tables.get(device, [])


def test_a_volume_is_followed_through_lvm_and_mirror_to_partitions(tmp_path: Path) -> None:
    """LVM (253:0) on md (9:0) on 8:1 and 8:17, of which only the first disk is protected."""
    for disk, part in (("8:0", "8:1"), ("8:16", "8:17")):
        whole = tmp_path / "devices" / disk
        (whole / part).mkdir(parents=True)
        for node, name, size in ((whole, disk, 8192), (whole / part, part, 4096)):
            (node / "dev").write_text(name)
            (node / "size").write_text(f"{size}\n")
            (tmp_path / name).symlink_to(node)
        (whole / part / "partition").write_text("1\n")
        (whole / part / "start").write_text("2048\n")
    make_array(tmp_path / "9:0")
    for number in range(4):
        (tmp_path / "9:0/md" / f"dev-sd{number}/block/dev").write_text(f"8:{1 + 16 * number}\n")
    (tmp_path / "253:0" / "dm").mkdir(parents=True)
    tables = Tables({os.makedev(253, 0): [dm.Target(0, 4096, "linear", ("9:0", "16"))]})
    stack = Stack([os.makedev(8, 0)], tables, tmp_path)
    at = 2048 * 512 + 264 * 512 + 16 * 512
    assert stack.segments(os.makedev(253, 0)) == (Segment(0, 4096, os.makedev(8, 0), at),)
    assert stack.segments(os.makedev(8, 0)) == (Segment(0, 8192 * 512, os.makedev(8, 0), 0),)
    assert stack.segments(os.makedev(99, 9)) == ()


def test_only_devices_are_active_swap(tmp_path: Path) -> None:
    (tmp_path / "swaps").write_text(
        "Filename Type Size Used Priority\n/dev/null partition 1 0 -2\n/swapfile file 1 0 -3\n"
    )
    assert active_swaps(tmp_path / "swaps") == {os.makedev(1, 3)}
    assert active_swaps(tmp_path / "absent") == set()


def test_a_swap_header_below_something_else_is_not_swap(tmp_path: Path) -> None:
    """mdadm leaves the header of a swap partition in place when it makes an array of it."""
    image = tmp_path / "disk"
    volume = Volume("sdz1", 1, 1, 0, MIB)

    def told(content: dict[int, bytes], *holders: str) -> bool:
        with image.open("wb") as stream:
            stream.truncate(MIB)
            for at, data in content.items():
                stream.seek(at)
                stream.write(data)
        for one in holders:
            (tmp_path / "sdz1" / "holders" / one).mkdir(parents=True)
        disk = DirectDisk(Protected("sdz", str(image), 1, MIB, 512, True, (volume,)))
        try:
            return is_swap(disk, volume, tmp_path)
        finally:
            disk.close()

    header = {4086: b"SWAPSPACE2"}
    assert told(header)
    assert not told({})
    assert not told({**header, 4096: b"\xfc\x4e\x2b\xa9"})
    assert not told(header, "md0")
