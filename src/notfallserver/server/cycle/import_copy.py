"""Brings the disk of an image into a run: what the last version holds already is not written again.

An import is a run like any other, whose blocks come from a file. So it resumes what a killed server
left, shares what has not changed with the last version, and ends with a sealed version or none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from notfallserver.server.cycle.normal.runs import Runs
from notfallserver.server.foreign.source import Stretch
from notfallserver.wire.blocks import BLOCK, HOLE, Run, hash_block
from notfallserver.wire.frames import (
    BATCH_BLOCKS,
    HOLE_RUNS,
    PLAIN,
    Offer,
    write_blocks,
    write_holes,
    write_offer,
)


def copy_disk(
    stretches: Iterable[Stretch],
    disk: int,
    runs: Runs,
    primary: str,
    run: str,
    tell: Callable[[int], None],
) -> None:
    """All blocks of one disk in order; ``tell`` hears each number of bytes and may raise."""
    free: list[Run] = []
    for one in stretches:
        if one.data is None:
            _add(free, one.first, one.count)
            tell(one.count * BLOCK)
        else:
            _copy(one.first, one.data, disk, runs, primary, run)
            tell(len(one.data))
        if len(free) >= HOLE_RUNS:
            runs.punch(primary, run, write_holes(disk, free))
            free = []
    if free:
        runs.punch(primary, run, write_holes(disk, free))


def _add(free: list[Run], first: int, count: int) -> None:
    """Neighbours become one."""
    if free and sum(free[-1]) == first:
        free[-1] = (free[-1][0], free[-1][1] + count)
    else:
        free.append((first, count))


def _copy(first: int, data: memoryview, disk: int, runs: Runs, primary: str, run: str) -> None:
    step = BATCH_BLOCKS * BLOCK
    for at in range(0, len(data), step):
        part = data[at : at + step]
        blocks = [part[begin : begin + BLOCK] for begin in range(0, len(part), BLOCK)]
        number = first + at // BLOCK
        offer: Offer = [(number + n, hash_block(block)) for n, block in enumerate(blocks)]
        bitmap = runs.offer(primary, run, write_offer(disk, offer))
        wanted = [
            (entry, block)
            for n, (entry, block) in enumerate(zip(offer, blocks, strict=True))
            if bitmap[n >> 3] & 0x80 >> (n & 7) and entry[1] != HOLE
        ]
        if wanted:
            content = b"".join(block for _, block in wanted)
            entries = [entry for entry, _ in wanted]
            runs.receive(primary, run, write_blocks(disk, entries, content, PLAIN))
