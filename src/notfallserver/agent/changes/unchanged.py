"""The rule: which blocks hold nothing but files that did not change (pure).

A file did not change since a frozen moment if its fingerprint is the one of before that moment and
its ctime is older than it. For the freeze waits until writes that began before have ended, and
write-protects what is mapped, so every later change of content begins, and takes its ctime, after
it; and no program can set a ctime. The margin is for the clock's ticks: a write before and one
after a freeze had the same ctime in most tries. What changes without a ctime is caught by the
fingerprint (extents moved by defragmentation) or left out by the readers of inodes.

A block may be skipped only if all of it that is in use belongs to such files.
"""

from __future__ import annotations

import re
from typing import Iterable, Iterator, List, Tuple

from notfallserver.agent.disks.runs import Extent, free_runs, merged, subtract
from notfallserver.agent.inodes.base import Inode, NotUnderstood
from notfallserver.wire.blocks import BLOCK, Run, block_count

MARGIN_NS = 2 * 10**9
_UNIT = 512
_FULL = BLOCK // _UNIT
_ZEROS = re.compile(rb"\0+")

Print = Tuple[int, bytes]
"""An inode's number and fingerprint."""


def unchanged(before: Iterable[Print], now: Iterable[Inode], moment_ns: int) -> Iterator[Inode]:
    """The files of ``now`` that did not change since ``moment_ns``; both ascending by number.

    ``now`` is read to its end, whatever is found.
    """
    known = iter(before)
    one = next(known, None)
    for inode in now:
        while one is not None and one[0] < inode.number:
            one = next(known, None)
        if one == inode[:2] and inode.changed < moment_ns - MARGIN_NS:
            yield inode


class Cover:
    """How much of what is in use in each block of one disk was not found unchanged."""

    def __init__(self, size: int, free: Iterable[Extent]) -> None:
        self._size = size
        self._free = merged(free)
        self._left = bytearray(bytes((_FULL,)) * block_count(size))
        for start, length in self._free:
            end = min(start + length, size)
            for block, units in _shares(-(-start // _UNIT), end // _UNIT):
                self._left[block] -= units
            first, last = -(-start // BLOCK), end // BLOCK
            if last > first:
                self._left[first:last] = bytes(last - first)

    def add(self, extent: Extent) -> None:
        """This extent did not change. Each byte at most once, or :class:`NotUnderstood`."""
        start, length = extent
        first, last = -(-start // BLOCK), (start + length) // BLOCK
        if start % _UNIT or length % _UNIT or start + length > len(self._left) * BLOCK:
            raise NotUnderstood("an extent lies outside of the disk")
        for block, units in _shares(start // _UNIT, (start + length) // _UNIT):
            if self._left[block] < units:
                raise NotUnderstood("two files have the same block, or it is free")
            self._left[block] -= units
        if last > first:
            if self._left.count(_FULL, first, last) != last - first:
                raise NotUnderstood("two files have the same block, or it is free")
            self._left[first:last] = bytes(last - first)

    def skippable(self) -> List[Run]:
        """The blocks in use that did not change."""
        nothing_left = [(at.start(), at.end() - at.start()) for at in _ZEROS.finditer(self._left)]
        return subtract(nothing_left, free_runs(self._size, self._free))


def _shares(begin: int, end: int) -> List[Tuple[int, int]]:
    """The blocks that a range of units covers in part only, and how many units of each."""
    if end <= begin:
        return []
    first, last = begin // _FULL, (end - 1) // _FULL
    if first == last:
        return [(first, end - begin)] if end - begin < _FULL else []
    shares = []
    if begin % _FULL:
        shares.append((first, _FULL - begin % _FULL))
    if end % _FULL:
        shares.append((last, end % _FULL))
    return shares
