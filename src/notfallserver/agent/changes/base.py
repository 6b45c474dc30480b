"""What every source of changes can do.

A source tells which blocks were written since it was asked last. Positions are per disk, in the
order of the disks it was made for; marks are one byte per 64 KiB block, 0 or 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Tuple


@dataclass(frozen=True)
class Watched:
    """One disk to watch: its device number, then those of its partitions (kernel's dev_t)."""

    devices: Tuple[int, ...]
    blocks: int
    queued: bool = True  # its driver works with requests, not with bios alone


Marks = List[bytes]
"""One entry per disk, one byte per block."""


class Changes:
    """A source of changes. Not thread-safe."""

    knows = False
    """Whether :meth:`take` tells anything."""

    def settle(self) -> None:
        """Do the slow part of :meth:`take` in advance; used before a freeze."""

    def take(self) -> Marks:
        """Blocks written since the call before last, and forget what the last call told.

        Each mark is told twice, because a write that was on its way at the first call may have
        reached the disk only after the block was read.
        """
        raise NotImplementedError

    def pending(self) -> Marks:
        """All that was told since the last :meth:`forget`, and maybe more."""
        raise NotImplementedError

    def forget(self) -> None:
        """What was told so far is no longer pending; of the last :meth:`take` it may stay."""

    def broken(self) -> str:
        """Why the marks are not complete, or an empty text."""
        return ""

    def close(self) -> None:
        """Let go; watching ends unless something else holds the source."""


def merge(one: bytes, other: bytes) -> bytes:
    """All marks of both."""
    if one.find(1) < 0 or len(one) != len(other):
        return other
    joined = int.from_bytes(one, "little") | int.from_bytes(other, "little")
    return joined.to_bytes(len(one), "little")


def marked_runs(marks: bytes) -> List[Tuple[int, int]]:
    """Marks as runs of (first block, number of blocks)."""
    runs: List[Tuple[int, int]] = []
    at = marks.find(1)
    while at >= 0:
        end = marks.find(0, at)
        if end < 0:
            end = len(marks)
        runs.append((at, end - at))
        at = marks.find(1, end)
    return runs
