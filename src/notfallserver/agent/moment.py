"""The frozen moment: what is read while everything stands still.

All memory is taken and touched before. With a tracker only the blocks written since the last pass
are read; without one everything in use is read again and compared with the hashes of the hot pass,
and what differs is kept. The buffer bounds how much can be kept. What was read may be sent to
several servers at once; its memory is given back when the last one lets go of it.
"""

from __future__ import annotations

import mmap
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Iterator, List, Sequence, Tuple

from notfallserver.agent import kernel
from notfallserver.agent.applications.application import Applied
from notfallserver.agent.crew import Crew
from notfallserver.agent.disks.direct import DirectDisk
from notfallserver.agent.disks.runs import batches, total
from notfallserver.agent.freeze.linux import Held
from notfallserver.agent.send import Batch, Sender, hash_runs
from notfallserver.wire.blocks import BLOCK, HASH, Run, runs_of
from notfallserver.wire.frames import BATCH_BLOCKS

_PIECE = 16  # blocks per read while frozen: 1 MiB, several at a time

Used = List[List[Run]]
"""Blocks of each disk."""


class TooMuch(Exception):
    """More was written than can be read in a frozen moment."""


@dataclass(frozen=True)
class _Piece:
    disk: int
    first: int
    count: int
    at: int  # in the buffer


@dataclass(frozen=True)
class Content:
    """What was read while frozen; ``sizes`` of the disks in bytes. Safe from several threads."""

    pieces: Tuple[_Piece, ...]
    view: memoryview
    sizes: Tuple[int, ...]

    def batches(self) -> List[Batch]:
        """All of it, ready to send."""
        found = []
        for piece in self.pieces:
            length = min(piece.count * BLOCK, self.sizes[piece.disk] - piece.first * BLOCK)
            data = self.view[piece.at : piece.at + length]
            found.append(Batch(piece.disk, [(piece.first, piece.count)], data))
        return found

    def held(self, disk: int) -> List[Run]:
        """Which blocks of a disk these are."""
        numbers = sorted(
            number
            for piece in self.pieces
            if piece.disk == disk
            for number in range(piece.first, piece.first + piece.count)
        )
        return runs_of(numbers)

    @property
    def blocks(self) -> int:
        return sum(piece.count for piece in self.pieces)


@dataclass(frozen=True)
class Still:
    """A frozen moment: when, what was in use and was read then, how applications stood."""

    held: Held
    used: Used
    content: Content
    applied: Tuple[Applied, ...]


class FrozenBuffer:
    """What was read while frozen: ``limit`` bytes at most."""

    def __init__(self, crew: Crew, disks: Sequence[DirectDisk], limit: int) -> None:
        self._crew = crew
        self._disks = list(disks)
        self._lock = threading.Lock()
        self._pieces: List[_Piece] = []
        self._end = 0
        self._let_go()
        self._limit = 0
        self.resize(limit)

    @property
    def blocks(self) -> int:
        return self._limit // BLOCK

    def resize(self, limit: int) -> None:
        """Take memory for ``limit`` bytes and touch it; what was read before is dropped."""
        self.clear()
        self._limit = limit // BLOCK * BLOCK
        self._let_go()  # of the old memory, before new is taken
        self._memory = mmap.mmap(-1, max(self._limit, BLOCK))
        kernel.fill_zero(self._memory, 0, self._limit)
        self._view = memoryview(self._memory)

    def clear(self) -> None:
        self._pieces, self._end = [], 0

    def _let_go(self) -> None:
        self._view, self._memory = memoryview(b""), mmap.mmap(-1, BLOCK)

    def close(self) -> None:
        """What :meth:`content` told stays."""
        self.clear()
        self._let_go()

    def content(self) -> Content:
        """After the thaw: all that was read. Memory that was not needed is given back."""
        with suppress(OSError):
            if self._end < self._limit:
                self._memory.madvise(mmap.MADV_REMOVE, self._end, self._limit - self._end)
        sizes = tuple(one.size for one in self._disks)
        return Content(tuple(self._pieces), self._view, sizes)

    def read(self, wanted: Sequence[Sequence[Run]]) -> None:
        """Read these blocks of each disk now."""
        if sum(total(runs) for runs in wanted) > self.blocks:
            raise TooMuch
        for disk, runs in enumerate(wanted):
            for first, count in runs:
                for start in range(first, first + count, _PIECE):
                    step = min(_PIECE, first + count - start)
                    self._pieces.append(_Piece(disk, start, step, self._end))
                    self._end += step * BLOCK
        self._crew.each(self._pieces, self._read_piece)

    def _read_piece(self, _number: int, piece: _Piece) -> None:
        disk = self._disks[piece.disk]
        length = min(piece.count * BLOCK, disk.size - piece.first * BLOCK)
        disk.read_into(self._view[piece.at : piece.at + length], piece.first * BLOCK)

    def compare(self, used: Sequence[Sequence[Run]], sender: Sender, seconds: float) -> None:
        """Read all used blocks again and keep those whose hash is not the noted one."""
        deadline = time.monotonic() + seconds

        def work(number: int, batch: Batch) -> None:
            if time.monotonic() > deadline:
                raise TooMuch
            view = sender.load(number, batch)
            noted = sender.hashes[batch.disk]
            for place, (block, digest) in enumerate(hash_runs(batch.runs, view)):
                if noted[block * HASH : block * HASH + HASH] != digest:
                    self._keep(batch.disk, block, view[place * BLOCK : (place + 1) * BLOCK])

        self._crew.each(all_batches(used), work)

    def _keep(self, disk: int, block: int, content: memoryview) -> None:
        with self._lock:
            at = self._end
            if at + BLOCK > self._limit:
                raise TooMuch
            self._end += BLOCK
            self._pieces.append(_Piece(disk, block, 1, at))
        self._view[at : at + len(content)] = content


def all_batches(runs: Sequence[Sequence[Run]]) -> Iterator[Batch]:
    """The blocks of all disks in batches of a frame's size; made when asked for, not before."""
    for disk, each in enumerate(runs):
        for group in batches(each, BATCH_BLOCKS):
            yield Batch(disk, group)
