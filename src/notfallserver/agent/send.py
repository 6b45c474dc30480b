"""Sending blocks: read, hash, offer the hashes, send what the server wants.

Each thread of the crew has one aligned buffer of a frame's size and one connection; batches go on
in parallel, memory stays at a few buffers. Blocks that are all zero are offered as holes and never
sent. Counters are in bytes.

There are more connections than threads at work on the processor: while one frame is hashed or
packed, others are read from the disk, are under way, or are being stored. One connection alone does
not fill a line that loses packets, either.
"""

from __future__ import annotations

import mmap
import threading
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Callable, Iterable, Iterator, List, Optional, Sequence, Tuple

from notfallserver.agent.crew import Crew
from notfallserver.agent.disks.direct import DirectDisk
from notfallserver.agent.disks.runs import batches, total
from notfallserver.agent.line import Line
from notfallserver.agent.pace import Pace
from notfallserver.agent.packing import Packing
from notfallserver.wire.blocks import (
    BLOCK,
    HASH,
    HOLE,
    UNKNOWN,
    Buffer,
    Run,
    hash_block,
    is_zero,
)
from notfallserver.wire.client import Throttle
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.frames import (
    BATCH_BLOCKS,
    PLAIN,
    Offer,
    blocks_parts,
    pack,
    write_holes,
    write_offer,
)

_LAST_TASK_S = 20.0
THIN = 100e6 / 8
"""A line below this, in bytes a second, gets small frames; so does one that is not known yet."""
THIN_BLOCKS = 16
"""So many blocks a frame has on a thin line: there they are packed, and what all connections hold
packed and unpacked would else take as much memory as all the rest."""
TELLING = 1 << 17
"""Bytes of a request that say something about the line, and not only about its delay."""


@dataclass(frozen=True)
class Batch:
    """At most one frame's blocks of one disk; ``data`` if they were read already."""

    disk: int
    runs: Sequence[Run]
    data: Optional[memoryview] = None


def read_runs(disk: DirectDisk, runs: Sequence[Run], view: memoryview) -> int:
    """Read runs one after another into ``view``; returns the bytes."""
    at = 0
    for first, count in runs:
        length = min(count * BLOCK, disk.size - first * BLOCK)
        disk.read_into(view[at : at + length], first * BLOCK)
        at += length
    return at


def hash_runs(
    runs: Sequence[Run], view: memoryview, digest: Callable[[Buffer], bytes] = hash_block
) -> Offer:
    """Number and hash of each block; ``view`` holds them one after another."""
    entries: Offer = []
    at = 0
    for first, count in runs:
        for number in range(first, first + count):
            entries.append((number, digest(view[at : at + BLOCK])))
            at += BLOCK
    return entries


def _only_zero(data: Buffer) -> bytes:
    return HOLE if is_zero(data) else UNKNOWN


class Sender:
    """Sends batches of one run; ``run_path`` is ``/agent/v1/runs/ID``."""

    def __init__(
        self,
        crew: Crew,
        connect: Callable[[Throttle], Line],
        disks: Sequence[DirectDisk],
        run_path: str,
        packing: Packing,
        pace: Pace,
        at_work: int,
    ) -> None:
        self.read = self.sent = self.done = 0
        self.hashes: List[mmap.mmap] = []
        """Where each hash is noted, if anywhere: per disk, 16 bytes per block."""
        self.unasked = False
        """Send without offering first: the server has nothing yet, and hashes what comes."""
        self.differing: Optional[List[List[int]]] = None
        """Where it is noted, if anywhere, which blocks the server had otherwise; per disk."""
        self._crew = crew
        self._disks = list(disks)
        self._path = run_path
        self._packing = packing
        self._pace = pace
        self._lock = threading.Lock()
        self._workers = at_work
        self._at_work = threading.Semaphore(at_work)
        self._lines = [connect(pace.pieces) for _ in range(crew.size)]
        self._buffers = [mmap.mmap(-1, BATCH_BLOCKS * BLOCK) for _ in range(crew.size)]
        self._shrunk = [False] * crew.size

    def note_hashes(self) -> None:
        """Memory is taken only where blocks are in use."""
        self.hashes = [mmap.mmap(-1, disk.disk.blocks * HASH) for disk in self._disks]

    def send_all(self, batches: Iterable[Batch], tick: Callable[[], None]) -> None:
        self.done = 0
        self._crew.each(batches, self._send, tick)

    def give_back(self) -> None:
        """The memory of the threads' buffers, until they are used again. Nothing may be under way.

        Of two runs at once each has such buffers, and then one of them needs the frozen moment's.
        """
        for one in self._buffers:
            _let_go(one)

    def load(self, number: int, batch: Batch) -> memoryview:
        """The batch's contents, read into the thread's buffer unless they are there already."""
        if batch.data is not None:
            return batch.data
        view = memoryview(self._buffers[number])
        length = read_runs(self._disks[batch.disk], batch.runs, view)
        with self._lock:
            self.read += length
        return view[:length]

    def _send(self, number: int, batch: Batch) -> None:
        if not self._is_thin() or self._crew.size == self._workers:  # few threads hold little
            self._send_part(number, batch)
            return
        if not self._shrunk[number]:
            self._shrunk[number] = True
            _let_go(self._buffers[number])
        for part in split(batch, THIN_BLOCKS):
            self._send_part(number, part)

    def _is_thin(self) -> bool:
        return self._pace.line_rate() < THIN

    def _send_part(self, number: int, batch: Batch) -> None:
        line = self._lines[number]
        if batch.data is None:
            self._pace.before_reading(sum(count for _, count in batch.runs) * BLOCK)
        # What is sent unasked, and not compared later, need not be hashed on both sides.
        alone = self.unasked and not self.hashes
        view = self.load(number, batch)
        with self._at_work:
            entries = hash_runs(batch.runs, view, _only_zero if alone else hash_block)
        if self.hashes:
            noted = self.hashes[batch.disk]
            for block, digest in entries:
                noted[block * HASH : block * HASH + HASH] = digest
        wanted = [place for place, (_, digest) in enumerate(entries) if digest != HOLE]
        if not self.unasked:
            bitmap = self._offer(line, batch.disk, entries)
            differs = [bool(bitmap[at >> 3] & 0x80 >> (at & 7)) for at in range(len(entries))]
            wanted = [place for place in wanted if differs[place]]
            if self.differing is not None:
                self.differing[batch.disk] += [
                    block for (block, _), other in zip(entries, differs) if other
                ]
        if wanted:
            chosen, payload = choose(entries, view, wanted)
            self._send_blocks(line, batch.disk, chosen, payload)
        with self._lock:
            self.done += len(view)

    def _send_blocks(self, line: Line, disk: int, entries: Offer, payload: Buffer) -> None:
        with self._at_work:
            codec, level = self._packing.choose(payload)
            began, processor_began = time.monotonic(), time.thread_time()
            used, packed = pack(codec, payload, level)
            processor_s = time.thread_time() - processor_began
            packed_at = time.monotonic()
        parts = blocks_parts(disk, entries, len(payload), used, packed)
        with self._pace.gauge.sending() if len(packed) >= TELLING else nullcontext():
            line.send(f"{self._path}/blocks", parts)
        # As long as it would have taken with as many connections as there are packers: a line that
        # more connections share gives each of them less, and packing must not look cheap by that.
        send_s = (time.monotonic() - packed_at) * self._workers / self._crew.size
        pack_s = packed_at - began
        waited_s = max(0.0, pack_s - processor_s)
        self._packing.measured(codec != PLAIN, len(payload), pack_s, send_s, waited_s)
        with self._lock:
            self.sent += sum(len(part) for part in parts)

    def _offer(self, line: Line, disk: int, entries: Offer) -> bytes:
        """Which of these blocks the server has otherwise, as a bitmap."""
        bitmap = line.send(f"{self._path}/offer", write_offer(disk, entries))
        if len(bitmap) != (len(entries) + 7) // 8:
            raise NotfallError(
                "bad-answer", "The server's answer to an offer is broken.", "Update both sides."
            )
        return bitmap

    def punch(self, disk: int, holes: Sequence[Run], most: int) -> None:
        """Tell which blocks nothing uses."""
        for start in range(0, len(holes), most):
            frame = write_holes(disk, holes[start : start + most])
            self._lines[0].send(f"{self._path}/holes", frame)

    def close(self) -> None:
        self._crew.rest(_LAST_TASK_S)  # or a connection would be closed while it is in use
        for line in self._lines:
            line.close()
        self._buffers.clear()


def split(batch: Batch, most: int) -> Iterator[Batch]:
    """The same blocks in batches of at most so many."""
    at = 0
    for group in batches(batch.runs, most):
        end = at + total(group) * BLOCK
        yield Batch(batch.disk, group, None if batch.data is None else batch.data[at:end])
        at = end


def _let_go(buffer: mmap.mmap) -> None:
    """Give the memory back until it is used again."""
    with suppress(OSError, AttributeError):  # Windows can't
        buffer.madvise(mmap.MADV_REMOVE)


def choose(entries: Offer, view: memoryview, wanted: Sequence[int]) -> Tuple[Offer, Buffer]:
    """The wanted ones of a batch and their contents, copied only if they are not all."""
    if len(wanted) == len(entries):
        return entries, view
    chosen = [entries[place] for place in wanted]
    if wanted[-1] - wanted[0] + 1 == len(wanted):
        return chosen, view[wanted[0] * BLOCK : (wanted[-1] + 1) * BLOCK]
    return chosen, b"".join(view[place * BLOCK : (place + 1) * BLOCK] for place in wanted)
