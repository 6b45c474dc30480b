"""Partitions on disks of another size: nothing overlaps, nothing shrinks below its content."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notfallserver.guest.layout import MIB, Part, Place, Room, grow, lay_out
from notfallserver.guest.table import Slot, Table, kind_in, new_table, script
from notfallserver.wire.errors import NotfallError

ROOT = Part(0, 1, MIB, 800 * MIB, "ext4", "83", least=300 * MIB)
SWAP = Part(0, 2, 801 * MIB, 100 * MIB, "swap", "82")
DATA = Part(1, 1, MIB, 500 * MIB, "xfs", "83", least=310 * MIB)


def sizes(places: Sequence[Place]) -> list[tuple[int, int, int]]:
    return [(one.number, one.start // MIB, one.size // MIB) for one in places]


def test_the_last_with_data_grows_and_swap_moves_to_the_end() -> None:
    places = grow([ROOT, SWAP], Room("dos", 2000 * MIB))
    assert sizes(places) == [(1, 1, 1899), (2, 1900, 100)]
    room = Room("gpt", 2000 * MIB)
    assert room.end == 1999 * MIB
    assert sizes(grow([ROOT, SWAP], room)) == [(1, 1, 1898), (2, 1899, 100)]
    assert grow([ROOT, SWAP], Room("dos", 910 * MIB)) == ()


def test_only_what_can_grow_does() -> None:
    raid = Part(0, 1, MIB, 800 * MIB, "linux_raid_member")
    assert grow([raid], Room("gpt", 2000 * MIB)) == ()
    assert grow([], Room("gpt", 2000 * MIB)) == ()
    whole = Part(0, 0, 0, 800 * MIB, "btrfs")
    assert sizes(grow([whole], Room("", 2000 * MIB))) == [(0, 0, 2000)]


def test_an_mbr_ends_at_two_tebibytes() -> None:
    (place,) = grow([ROOT], Room("dos", 5 << 40))
    assert place.start + place.size == 2 << 40


def test_a_smaller_disk_shrinks_the_last_with_data() -> None:
    assert sizes(lay_out([ROOT, SWAP], [], Room("dos", 600 * MIB))) == [(1, 1, 499), (2, 500, 100)]
    assert sizes(lay_out([ROOT, SWAP], [], Room("dos", 901 * MIB)))[0] == (1, 1, 800)
    with pytest.raises(NotfallError) as caught:
        lay_out([ROOT, SWAP], [], Room("dos", 400 * MIB))
    assert caught.value.code == "contents-do-not-fit"
    assert "At least 0.4 GiB" in caught.value.cause


def test_what_nobody_measured_is_not_shrunk() -> None:
    unknown = Part(0, 1, MIB, 800 * MIB, "ext4", "83")
    for part in (unknown, Part(0, 1, MIB, 800 * MIB, "LVM2_member", least=MIB)):
        with pytest.raises(NotfallError):
            lay_out([part], [], Room("dos", 700 * MIB))


def test_two_disks_on_one_share_what_is_missing() -> None:
    room = Room("gpt", 1100 * MIB)
    places = lay_out([ROOT, SWAP], [[DATA]], room)
    assert [one.number for one in places] == [1, 2, 3]
    root, swap, data = places
    assert root.size + swap.size + data.size <= room.end - MIB
    assert root.shrunk and data.shrunk and not swap.shrunk
    assert data.size >= 310 * MIB and root.size >= 300 * MIB


def test_an_mbr_has_four_places() -> None:
    base = [Part(0, n, n * 100 * MIB, 90 * MIB, "ext4", "83") for n in (1, 2, 3)]
    assert len(lay_out(base, [[DATA]], Room("dos", 2000 * MIB))) == 4
    extended = Part(0, 4, 400 * MIB, 1024, "", "0x5")
    logical = Part(0, 5, 401 * MIB, 50 * MIB, "swap", "82")
    with pytest.raises(NotfallError) as caught:
        lay_out([*base, extended, logical], [[DATA]], Room("dos", 2000 * MIB))
    assert caught.value.code == "no-free-partition"
    with pytest.raises(NotfallError) as caught:
        lay_out([Part(0, 0, 0, 90 * MIB, "ext4")], [[DATA]], Room("", 2000 * MIB))
    assert caught.value.code == "layout-not-possible"


@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(0, 300), st.booleans()), min_size=1),
    st.lists(st.tuples(st.integers(1, 300), st.integers(0, 300)), max_size=3),
    st.integers(50, 4000),
    st.sampled_from(["dos", "gpt"]),
)
def test_whatever_is_laid_out_fits(
    base: list[tuple[int, int, bool]],
    further: list[tuple[int, int]],
    size: int,
    table: str,
) -> None:
    parts, at = [], MIB
    for number, (mib, least, swap) in enumerate(base[:4], 1):
        kind = "swap" if swap else "ext4"
        parts.append(Part(0, number, at, mib * MIB, kind, "83", least=least * MIB))
        at += mib * MIB
    joined = [
        [Part(n, 0, 0, m * MIB, "btrfs", "", least * MIB)]
        for n, (m, least) in enumerate(further, 1)
    ]
    room = Room(table, size * MIB)
    try:
        places = lay_out(parts, joined, room)
    except NotfallError:
        return
    end = 0
    for place in sorted(places, key=lambda one: one.start):
        assert place.start >= end
        end = place.start + place.size
        assert place.size == place.part.size or place.size >= place.part.least > 0
        kept = place.part.disk or place.part.filesystem == "swap" or place.start == place.part.start
        assert kept
    assert end <= room.end
    assert len({one.number for one in places}) == len(places)


def test_logical_partitions_keep_their_container() -> None:
    slots = (
        Slot(1, MIB, 300 * MIB, "83", bootable=True),
        Slot(2, 301 * MIB, 100 * MIB, "5"),
        Slot(5, 302 * MIB, 99 * MIB, "82"),
    )
    table = Table("dos", "0x1", 512, slots)
    parts = [
        Part(0, 1, MIB, 300 * MIB, "ext4", "83"),
        Part(0, 2, 301 * MIB, 100 * MIB, "", "5"),
        Part(0, 5, 302 * MIB, 99 * MIB, "swap", "82"),
    ]
    made = new_table(table, {}, grow(parts, Room("dos", 1000 * MIB)))
    told = {one.number: (one.start // MIB, one.size // MIB) for one in made.slots}
    assert told == {1: (1, 899), 2: (900, 100), 5: (901, 99)}
    assert "/dev/x1 : start=2048, size=1841152, type=83, bootable" in script(made)


def test_kinds_are_told_in_the_words_of_the_other_table() -> None:
    assert kind_in("gpt", "8e").startswith("E6D6D379")
    assert kind_in("dos", "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f") == "82"
    assert kind_in("dos", "12345678-0000-0000-0000-000000000000") == "83"
    assert kind_in("dos", "0xa5") == "a5"


def test_an_overlapping_table_is_never_written() -> None:
    table = Table("dos", "", 512, (Slot(1, MIB, MIB, "83"), Slot(2, 2 * MIB, MIB, "83")))
    one, two = Part(0, 1, MIB, MIB), Part(0, 2, 2 * MIB, MIB)
    with pytest.raises(NotfallError):
        new_table(table, {}, [Place(one, 1, MIB, 2 * MIB), Place(two, 2, 2 * MIB, MIB)])
