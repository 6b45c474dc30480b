"""Checking a version: is on the disk what its index says, and is the index the one sealed?

What is a hole in the file and in the index costs nothing. What shares its place on the device with
a version that was read just now, for the same hash, is not read again: a pool holds many versions
that share almost everything. Everything else is read past the page cache and hashed. Nothing is
changed here; see ``repair``.
"""

from __future__ import annotations

import errno
import heapq
import sys
from bisect import bisect_right
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

from notfallserver.server.host.clone import marked_runs, shared_blocks, written_stretches
from notfallserver.server.host.direct import DirectReader, forget_cached
from notfallserver.server.pool.index import Index, hash_index
from notfallserver.server.pool.version import DiskImage, Version
from notfallserver.wire.blocks import (
    BLOCK,
    HASH,
    HOLE,
    Run,
    block_count,
    block_length,
    hash_block,
    runs_of,
    split_runs,
)

STRETCH = 256
"""So many blocks are looked at between two answers."""
LONG_INDEX = 256 << 20
"""A longer index, in bytes (1 TiB of disk has as much), is checked by the job only: an agent waits
for its run to begin, and a switch-back for its last capture."""
_AT_ONCE = DirectReader.MOST // BLOCK


@dataclass(frozen=True)
class Stretch:
    """Some neighbouring blocks that were checked; ``used`` and ``read`` in bytes."""

    first: int
    count: int
    bad: list[Run]
    used: int
    read: int


@dataclass(frozen=True)
class Twin:
    """A version whose content was checked in the same job, and what was wrong with it."""

    version: Version
    bad: Mapping[int, Sequence[Run]] = field(default_factory=dict)


def files_fit(version: Version, image: DiskImage) -> bool:
    """Whether image and index of a disk are there and as long as they must be."""
    try:
        raw = version.raw(image.index).stat().st_size
        idx = version.idx(image.index).stat().st_size
    except FileNotFoundError:
        return False
    return raw == image.size and idx == block_count(image.size) * HASH


def index_fits(version: Version, image: DiskImage) -> bool:
    """Whether the index on the disk is the one that was sealed."""
    try:
        forget_cached(version.idx(image.index))
        return hash_index(version.idx(image.index)) == image.index_hash
    except OSError as error:
        if error.errno not in (errno.EIO, errno.ENOENT):
            raise
        return False


def may_build_on(version: Version, image: DiskImage) -> bool:
    """Whether a new version may take over this index: it fits, or it is too long to ask in time."""
    return image.size // BLOCK * HASH > LONG_INDEX or index_fits(version, image)


def check_blocks(
    version: Version, image: DiskImage, twin: Twin | None = None, start: int = 0
) -> Generator[Stretch, None, None]:
    """Check a disk from block ``start`` on. Its files must fit (see :func:`files_fit`)."""
    with ExitStack() as stack:
        index = stack.enter_context(Index(version.idx(image.index)))
        reader = stack.enter_context(DirectReader(version.raw(image.index)))
        other = _open_twin(stack, twin, image)
        worth = _worth_reading(reader.handle, index)
        for first, count in split_runs(worth, STRETCH):
            if first < start:
                continue
            bad, read = _check_stretch(index, reader, other, first, count, image.size)
            yield Stretch(first, count, bad, index.used(first, count) * BLOCK, read)


@dataclass(frozen=True)
class _OpenTwin:
    index: Index
    handle: int
    bad: Sequence[Run]

    def damaged(self, number: int) -> bool:
        place = bisect_right(self.bad, (number, sys.maxsize)) - 1
        return place >= 0 and number < sum(self.bad[place])


def _open_twin(stack: ExitStack, twin: Twin | None, image: DiskImage) -> _OpenTwin | None:
    if twin is None or not any(
        one.index == image.index and one.size == image.size for one in twin.version.manifest.disks
    ):
        return None
    try:
        index = stack.enter_context(Index(twin.version.idx(image.index)))
        raw = stack.enter_context(closing(DirectReader(twin.version.raw(image.index))))
    except (FileNotFoundError, ValueError):  # it was removed meanwhile, or lost its index
        return None
    if index.blocks != block_count(image.size):
        return None
    return _OpenTwin(index, raw.handle, twin.bad.get(image.index, ()))


def _worth_reading(raw: int, index: Index) -> Iterator[Run]:
    """Runs of blocks that are a hole not both in the file and in the index."""
    contents = ((start // BLOCK, -(-end // BLOCK)) for start, end in written_stretches(raw))
    entries = ((start // HASH, -(-end // HASH)) for start, end in written_stretches(index.handle))
    first = end = 0
    for begin, until in heapq.merge(contents, entries):
        if begin > end:
            if end > first:
                yield first, end - first
            first = begin
        end = max(end, min(until, index.blocks))
    if end > first:
        yield first, end - first


def _check_stretch(
    index: Index, reader: DirectReader, twin: _OpenTwin | None, first: int, count: int, size: int
) -> tuple[list[Run], int]:
    """The damaged runs, and how many bytes were read to know them."""
    unread = bytearray(count)
    for begin, end in written_stretches(reader.handle, first * BLOCK, (first + count) * BLOCK):
        left, right = begin // BLOCK - first, -(-end // BLOCK) - first
        unread[left:right] = b"\1" * (right - left)
    bad = [
        first + place
        for place in range(count)
        if not unread[place] and index[first + place] != HOLE
    ]
    if twin is not None:
        same = shared_blocks(reader.handle, twin.handle, first, count, size)
        here, there = index.slice(first, count), twin.index.slice(first, count)
        for place in range(count):
            at = place * HASH
            if unread[place] and same[place] and here[at : at + HASH] == there[at : at + HASH]:
                unread[place] = 0
                if twin.damaged(first + place):
                    bad.append(first + place)
    read = 0
    for begin, length in split_runs(marked_runs(unread), _AT_ONCE):
        numbers = range(first + begin, first + begin + length)
        bad += wrong_blocks(index, reader, numbers, size)
        read += min(numbers.stop * BLOCK, size) - numbers.start * BLOCK
    return runs_of(sorted(bad)), read


def wrong_blocks(index: Index, reader: DirectReader, numbers: range, size: int) -> list[int]:
    """Which of some neighbouring blocks, one MiB at most, can't be read or don't fit their hash."""
    length = (len(numbers) - 1) * BLOCK + block_length(numbers[-1], size)
    try:
        view = reader.read(numbers[0] * BLOCK, length)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        if len(numbers) == 1:
            return [numbers[0]]
        alone = (range(number, number + 1) for number in numbers)
        return [bad for one in alone for bad in wrong_blocks(index, reader, one, size)]
    if len(view) < length:
        return list(numbers)
    return [
        number
        for place, number in enumerate(numbers)
        if hash_block(view[place * BLOCK : (place + 1) * BLOCK]) != index[number]
    ]
