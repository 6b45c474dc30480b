"""Arithmetic with runs of blocks, against the same done with sets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from notfallserver.agent.changes.base import marked_runs, merge
from notfallserver.agent.disks.runs import (
    batches,
    free_runs,
    intersect,
    merged,
    subtract,
    total,
)
from notfallserver.wire.blocks import BLOCK, Run, block_count, runs_of

numbers = st.sets(st.integers(0, 60))
SECTOR = 512


def blocks(runs: list[Run]) -> list[int]:
    return [number for first, count in runs for number in range(first, first + count)]


@given(numbers, numbers)
def test_subtract_intersect_and_merge_are_those_of_sets(one: set[int], other: set[int]) -> None:
    left, right = runs_of(sorted(one)), runs_of(sorted(other))
    assert subtract(left, right) == runs_of(sorted(one - other))
    assert intersect(left, right) == runs_of(sorted(one & other))
    assert merged([*right, *left]) == runs_of(sorted(one | other))


@given(
    st.integers(1, 40 * 128),
    st.lists(st.tuples(st.integers(0, 40 * 128), st.integers(1, 600)), max_size=12),
)
def test_a_block_is_free_only_if_every_sector_of_it_is(
    sectors: int, extents: list[tuple[int, int]]
) -> None:
    free = {
        sector for start, count in extents for sector in range(start, min(start + count, sectors))
    }
    expected = [
        number
        for number in range(block_count(sectors * SECTOR))
        if free.issuperset(range(number * 128, min(number * 128 + 128, sectors)))
    ]
    inside = [(a * SECTOR, min(n, sectors - a) * SECTOR) for a, n in extents if a < sectors]
    assert blocks(free_runs(sectors * SECTOR, inside)) == expected


@given(numbers, st.integers(1, 9))
def test_batches_hold_the_same_blocks_and_never_too_many(wanted: set[int], most: int) -> None:
    groups = list(batches(runs_of(sorted(wanted)), most))
    assert all(0 < total(group) <= most for group in groups)
    assert [number for group in groups for number in blocks(group)] == sorted(wanted)
    assert all(total(group) == most for group in groups[:-1])


@given(numbers, numbers)
def test_marks_keep_every_block(one: set[int], other: set[int]) -> None:
    marks = [bytes(number in chosen for number in range(61)) for chosen in (one, other)]
    assert marked_runs(merge(*marks)) == runs_of(sorted(one | other))


def test_a_short_last_block_counts() -> None:
    assert free_runs(BLOCK + 512, [(BLOCK, 512)]) == [(1, 1)]
