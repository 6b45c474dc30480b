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

from typing import Iterable, Iterator, List, Tuple

from notfallserver.agent.disks.runs import Extent, merged
from notfallserver.agent.inodes.base import Inode, NotUnderstood
from notfallserver.wire.blocks import BLOCK, Run, block_count

MARGIN_NS = 2 * 10**9
_UNIT = 512
_FULL = BLOCK // _UNIT
_PIECE = 1 << 20  # blocks that are compared at a time

Print = Tuple[int, bytes]
"""An inode's number and fingerprint."""


def unchanged(before: Iterable[Print], now: Iterable[Inode], moment_ns: int) -> Iterator[Inode]:
    """The files of ``now`` that did not change since ``moment_ns``; both ascending by number."""
    known = iter(before)
    one = next(known, None)
    for inode in now:
        while one is not None and one[0] < inode.number:
            one = next(known, None)
        if one is None:
            return
        if one == inode[:2] and inode.changed < moment_ns - MARGIN_NS:
            yield inode


class Cover:
    """How much of each block of one disk is in use, and how much of that did not change."""

    def __init__(self, size: int, free: Iterable[Extent]) -> None:
        self._used = bytearray(bytes((_FULL,)) * block_count(size))
        self._covered = bytearray(len(self._used))
        for start, length in merged(free):
            end = min(start + length, size)
            for block, units in _shares(-(-start // _UNIT), end // _UNIT):
                self._used[block] -= units
            first, last = -(-start // BLOCK), end // BLOCK
            if last > first:
                self._used[first:last] = bytes(last - first)

    def add(self, extent: Extent) -> None:
        """This extent did not change. Each byte at most once, or :class:`NotUnderstood`."""
        start, length = extent
        first, last = -(-start // BLOCK), (start + length) // BLOCK
        if start % _UNIT or length % _UNIT or start + length > len(self._used) * BLOCK:
            raise NotUnderstood("an extent lies outside of the disk")
        for block, units in _shares(start // _UNIT, (start + length) // _UNIT):
            if self._covered[block] + units > _FULL:
                raise NotUnderstood("two files have the same block")
            self._covered[block] += units
        if last > first:
            if self._covered.count(0, first, last) != last - first:
                raise NotUnderstood("two files have the same block")
            self._covered[first:last] = bytes((_FULL,)) * (last - first)

    def skippable(self) -> List[Run]:
        """The blocks in use that did not change."""
        runs: List[Run] = []
        for start in range(0, len(self._used), _PIECE):
            used, covered = (one[start : start + _PIECE] for one in (self._used, self._covered))
            same = (int.from_bytes(used, "little") ^ int.from_bytes(covered, "little")).to_bytes(
                len(used), "little"
            )
            at = same.find(0)
            while at >= 0:
                end = at
                while end < len(same) and not same[end]:
                    end += 1
                runs += _without_free(used, at, end, start)
                at = same.find(0, end)
        return merged(runs)


def _without_free(used: bytearray, at: int, end: int, start: int) -> List[Run]:
    return [(start + one, 1) for one in range(at, end) if used[one]]


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
