"""Arithmetic with sorted runs of blocks. Pure.

A run is (first block, number of blocks); a list of runs is ascending and without overlap.
"""

from __future__ import annotations

from typing import Iterable, List, Sequence, Tuple

from notfallserver.wire.blocks import BLOCK, Run, block_count

Extent = Tuple[int, int]
"""Start and length in bytes."""


def total(runs: Iterable[Run]) -> int:
    return sum(count for _, count in runs)


def merged(pieces: Iterable[Tuple[int, int]]) -> List[Tuple[int, int]]:
    """Sorted, with overlapping and touching pieces joined; for runs as for extents."""
    joined: List[Tuple[int, int]] = []
    begin = end = -1
    for start, length in sorted(pieces):
        if start <= end:
            end = max(end, start + length)
            continue
        if end > begin:
            joined.append((begin, end - begin))
        begin, end = start, start + length
    if end > begin:
        joined.append((begin, end - begin))
    return joined


def free_runs(size: int, free: Iterable[Extent]) -> List[Run]:
    """Blocks of a disk of ``size`` bytes that lie wholly in free extents."""
    runs: List[Run] = []
    for start, length in merged(free):
        first = (start + BLOCK - 1) // BLOCK
        end = start + length
        last = block_count(size) if end >= size else end // BLOCK
        if last > first:
            runs.append((first, last - first))
    return runs


def subtract(runs: Sequence[Run], minus: Sequence[Run]) -> List[Run]:
    """The blocks of ``runs`` that are not in ``minus``."""
    left: List[Run] = []
    place = 0
    for first, count in runs:
        at, end = first, first + count
        while place < len(minus) and minus[place][0] + minus[place][1] <= at:
            place += 1
        here = place
        while at < end:
            if here == len(minus) or minus[here][0] >= end:
                left.append((at, end - at))
                break
            start, length = minus[here]
            if start > at:
                left.append((at, start - at))
            at = max(at, start + length)
            here += 1
    return left


def intersect(runs: Sequence[Run], other: Sequence[Run]) -> List[Run]:
    """The blocks that are in both."""
    both: List[Run] = []
    one = two = 0
    while one < len(runs) and two < len(other):
        start = max(runs[one][0], other[two][0])
        end_one, end_two = runs[one][0] + runs[one][1], other[two][0] + other[two][1]
        end = min(end_one, end_two)
        if end > start:
            both.append((start, end - start))
        if end_one <= end_two:
            one += 1
        else:
            two += 1
    return both


def whole(blocks: int) -> List[Run]:
    return [(0, blocks)] if blocks else []


def batches(runs: Iterable[Run], most: int) -> Iterable[List[Run]]:
    """The same blocks in groups of at most ``most``, so that each fits one frame and buffer."""
    group: List[Run] = []
    room = most
    for first, count in runs:
        at, left = first, count
        while left:
            step = min(left, room)
            group.append((at, step))
            at, left, room = at + step, left - step, room - step
            if not room:
                yield group
                group, room = [], most
    if group:
        yield group
