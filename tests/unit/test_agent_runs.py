"""Arithmetic with runs of blocks, against the same done with sets."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notfallserver.agent.changes.base import bounded, granules, marked_runs, merge
from notfallserver.agent.disks.runs import (
    batches,
    free_runs,
    intersect,
    merged,
    subtract,
    total,
)
from notfallserver.agent.send import Batch, split
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
    assert merge(*(marked_runs(each) for each in marks)) == runs_of(sorted(one | other))


@given(numbers, st.integers(1, 20))
def test_bounding_runs_loses_no_block(chosen: set[int], most: int) -> None:
    runs = runs_of(sorted(chosen))
    found = bounded(runs, most)
    assert len(found) <= max(1, most)
    assert chosen <= set(blocks(found))
    assert len(runs) > most or found == runs


def test_large_disks_share_marks_and_small_ones_keep_theirs() -> None:
    tib = 1 << 24  # blocks
    assert granules([tib // 4]) == [1]
    assert granules([tib]) == [4]
    assert granules([16 * tib]) == [64]
    assert granules([tib // 16, 16 * tib, 16 * tib])[0] == 1
    shared = granules([300 * tib] * 24)
    assert sum(-(-300 * tib // one) for one in shared) <= 6 << 20


def test_a_short_last_block_counts() -> None:
    assert free_runs(BLOCK + 512, [(BLOCK, 512)]) == [(1, 1)]


@pytest.mark.parametrize("held", [True, False])
def test_a_batch_for_a_thin_line_is_sent_in_smaller_ones(held: bool) -> None:
    content = os.urandom(9 * BLOCK - 100)  # the disk ends within the last block
    whole = Batch(1, [(3, 4), (9, 1), (20, 4)], memoryview(content) if held else None)
    parts = list(split(whole, 3))
    assert [one.runs for one in parts] == [[(3, 3)], [(6, 1), (9, 1), (20, 1)], [(21, 3)]]
    assert {one.disk for one in parts} == {1}
    if held:
        assert b"".join(one.data or b"" for one in parts) == content
    else:
        assert [one.data for one in parts] == [None] * 3
