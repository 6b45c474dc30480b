"""What every source of changes can do.

A source tells which blocks were written since it was asked last, as runs per disk, in the order of
the disks it was made for. It may always tell more than was written, never less: a large disk has
one mark for several blocks, and very many short runs are joined, so that memory stays bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence, Tuple

from notfallserver.agent.disks.runs import Extent, merged
from notfallserver.wire.blocks import Run

MOST_MARKS = 6 << 20
"""Of all disks together. Each takes three bytes of kernel memory: 18 MiB for any size of disks."""
MOST_RUNS = 1 << 15
"""Of one disk; joined where there are more. A run takes about 150 bytes."""


@dataclass(frozen=True)
class Watched:
    """One disk to watch: its device number, then those of its partitions (kernel's dev_t)."""

    devices: Tuple[int, ...]
    blocks: int
    queued: bool = True  # its driver works with requests, not with bios alone
    granule: int = 1  # blocks per mark, a power of two

    @property
    def marks(self) -> int:
        return -(-self.blocks // self.granule)


def granules(blocks: Sequence[int], most: int = MOST_MARKS) -> List[int]:
    """How many blocks share a mark on disks of so many blocks: the largest get coarser first."""
    shared = [1] * len(blocks)
    marks = list(blocks)
    while sum(marks) > most and max(marks) > 1:
        largest = marks.index(max(marks))
        shared[largest] *= 2
        marks[largest] = -(-blocks[largest] // shared[largest])
    return shared


Marks = List[List[Run]]
"""One entry per disk: runs of blocks, ascending."""


class Changes:
    """A source of changes. Not thread-safe."""

    knows = False
    """Whether :meth:`take` tells anything; if not, it is told in the frozen moment only."""

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

    def unchanged(self, free: Sequence[Sequence[Extent]], loose: Sequence[str]) -> Marks:
        """What can't have been written since the last :meth:`take`, though in use, if not
        :attr:`knows`; works while frozen.

        ``loose`` are the mount points that are not frozen.
        """
        raise NotImplementedError

    def assume(self, marks: Marks) -> None:
        """Take these blocks for written, and pending, too."""
        raise NotImplementedError

    def forget(self) -> None:
        """What was told so far is no longer pending; of the last :meth:`take` it may stay."""

    @property
    def remembers(self) -> bool:
        """Whether :meth:`pending` will tell what was written since the last frozen moment."""
        return self.knows

    def rest(self) -> None:
        """A run is over: nothing is kept open for it."""

    def broken(self) -> str:
        """Why the marks are not complete, or an empty text."""
        return ""

    def close(self) -> None:
        """Let go; watching ends unless something else holds the source."""


def merge(one: Sequence[Run], other: Sequence[Run]) -> List[Run]:
    """All blocks of both, in a bounded number of runs."""
    return bounded(merged([*one, *other]))


def bounded(runs: List[Run], most: int = MOST_RUNS) -> List[Run]:
    """The same blocks and, where there are more than ``most`` runs, those in small gaps."""
    gap = 1
    while len(runs) > most:
        joined: List[Run] = []
        first, end = runs[0][0], sum(runs[0])
        for start, count in runs:
            if start - end > gap:
                joined.append((first, end - first))
                first = start
            end = start + count
        joined.append((first, end - first))
        runs, gap = joined, gap * 2
    return runs


def marked_runs(marks: bytes) -> List[Run]:
    """Bytes that are 1, as runs of (first, number)."""
    runs: List[Run] = []
    at = marks.find(1)
    while at >= 0:
        end = marks.find(0, at)
        if end < 0:
            end = len(marks)
        runs.append((at, end - at))
        at = marks.find(1, end)
    return runs
