"""Bringing disks to a version: compare, fetch what differs, write, read back, compare again.

What each disk holds is known as a block index in memory (16 bytes for 64 KiB), made by reading the
disk once and kept true by every write. So an order may come again at any time, after a restart of
the server or in another recovery too, and only what is missing is done. An entry is forgotten
before its block is written and set after the block was read back with O_DIRECT. When the kernel
counts writes to the disk that are not ours, it is read again.

Holes must read as zero: the index does not tell an unused block from a used one full of zeros.
"""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Sequence, Tuple

from notfallserver.guest.shell import run
from notfallserver.rescue.direct import DirectDisk, claimed, cut_blocks, pieces
from notfallserver.rescue.targets import TargetDisk, writes_so_far
from notfallserver.wire.blocks import (
    BLOCK,
    HASH,
    HOLE,
    UNKNOWN,
    block_count,
    hash_block,
    runs_of,
    split_runs,
)
from notfallserver.wire.client import Client
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.frames import BATCH_BLOCKS, FRAME_LIMIT, HEADER, read_blocks, write_want

WORKERS = 4
"""Requests in flight; each holds at most one frame and its content in memory."""
MIB = 1 << 20


@dataclass
class PullProgress:
    """Bytes; ``written`` and ``verified`` are of this pull."""

    phase: str = ""
    done: int = 0
    total: int = 0
    written: int = 0
    verified: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, phase: str, total: int) -> None:
        with self.lock:
            self.phase, self.done, self.total = phase, 0, total

    def add(self, done: int, written: int = 0, verified: int = 0) -> None:
        with self.lock:
            self.done += done
            self.written += written
            self.verified += verified


class HeldIndex:
    """What one disk holds, as far as we know."""

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self._raw = bytearray(UNKNOWN * blocks)

    def __getitem__(self, number: int) -> bytes:
        return bytes(self._raw[number * HASH : number * HASH + HASH])

    def __setitem__(self, number: int, digest: bytes) -> None:
        self._raw[number * HASH : number * HASH + HASH] = digest

    def fill(self, digest: bytes) -> None:
        self._raw[:] = digest * self.blocks

    def differing(self, wanted: bytes) -> Tuple[List[int], List[int]]:
        """Blocks to fetch, and blocks to make zero."""
        fetch: List[int] = []
        zero: List[int] = []
        step = 4096 * HASH
        for at in range(0, len(wanted), step):
            if self._raw[at : at + step] == wanted[at : at + step]:
                continue
            for here in range(at, min(at + step, len(wanted)), HASH):
                digest = wanted[here : here + HASH]
                if self._raw[here : here + HASH] != digest:
                    (zero if digest == HOLE else fetch).append(here // HASH)
        return fetch, zero


class Puller:
    """All disks of one recovery; ``connect`` opens a client for one thread."""

    def __init__(
        self,
        disks: Sequence[TargetDisk],
        connect: Callable[[], Client],
        stopped: threading.Event,
    ) -> None:
        self.disks = list(disks)
        self._connect = connect
        self.stopped = stopped
        self._held: Dict[int, HeldIndex] = {}
        self._writes: Dict[int, Tuple[int, int]] = {}  # the kernel's count after our last write

    def pull(self, version: str, progress: PullProgress) -> None:
        """Afterwards the disks hold ``version``, proved by reading back."""
        with ExitStack() as stack:
            for disk in self.disks:
                stack.enter_context(claimed(disk.path))
                run(["blockdev", "--flushbufs", disk.path])  # late writes of others count, too
                if self._writes.get(disk.index) != writes_so_far(disk.name):
                    self._held.pop(disk.index, None)
            try:
                self._pull(version, progress)
            finally:
                self._writes = {disk.index: writes_so_far(disk.name) for disk in self.disks}

    def _pull(self, version: str, progress: PullProgress) -> None:
        client = self._connect()
        try:
            wanted = {disk.index: self._index(client, version, disk) for disk in self.disks}
        finally:
            client.close()
        for disk in self.disks:
            self._take(disk, len(wanted[disk.index]) // HASH, progress)
        work = {
            disk.index: self._held[disk.index].differing(wanted[disk.index]) for disk in self.disks
        }
        total = sum(len(fetch) + len(zero) for fetch, zero in work.values()) * BLOCK
        progress.begin("writing", total)
        for disk in self.disks:
            fetch, zero = work[disk.index]
            self._make_zero(disk, zero, progress)
            self._fetch(disk, version, fetch, wanted[disk.index], progress)

    # -- first look ------------------------------------------------------------------------------

    def _index(self, client: Client, version: str, disk: TargetDisk) -> bytes:
        path = f"/target/v1/index?version={version}&disk={disk.index}"
        most = (block_count(disk.size) + 1) * HASH
        raw = self._ask(client, "GET", path, b"", max(most, FRAME_LIMIT))
        if not raw or len(raw) % HASH:
            raise NotfallError("bad-answer", "The server's index is broken.", "Scrub the version.")
        if len(raw) // HASH > block_count(disk.size):
            raise NotfallError(
                "disk-too-small",
                f"The disk {disk.name} ({disk.size} bytes) is smaller than the original's.",
                "Use a disk of at least the original's size. Nothing was written.",
            )
        return raw

    def _take(self, disk: TargetDisk, blocks: int, progress: PullProgress) -> None:
        """Learn what the disk holds; a disk without any content is emptied instead of read."""
        known = self._held.get(disk.index)
        if known is not None and known.blocks == blocks:
            return
        held = HeldIndex(blocks)
        covered = min(blocks * BLOCK, disk.size)
        progress.begin(f"reading {disk.name}", covered)
        told = run(["blkid", "-p", disk.path], ok=(0, 2, 8))
        with DirectDisk(disk.path, writable=True) as raw:
            if told.exit_code == 2 and not told.out.strip() and raw.punch(0, covered):
                held.fill(HOLE)
            else:
                for offset, length in pieces(0, covered):
                    self._check_stop()
                    for at, block in enumerate(cut_blocks(raw.read(offset, length))):
                        held[offset // BLOCK + at] = hash_block(block)
                    progress.add(length)
            # an old table or array signature at the end of a larger disk must not survive
            rest = max(covered, disk.size - MIB)
            if rest < disk.size:
                raw.zero(rest, disk.size - rest)
            raw.flush()
        self._held[disk.index] = held

    # -- writing ---------------------------------------------------------------------------------

    def _make_zero(self, disk: TargetDisk, numbers: List[int], progress: PullProgress) -> None:
        if not numbers:
            return
        held = self._held[disk.index]
        with DirectDisk(disk.path, writable=True) as raw:
            for first, count in split_runs(runs_of(numbers), 4096):
                self._check_stop()
                for number in range(first, first + count):
                    held[number] = UNKNOWN
                offset = first * BLOCK
                length = min(count * BLOCK, disk.size - offset)
                raw.zero(offset, length)
                for at, some in pieces(offset, length):
                    if any(hash_block(one) != HOLE for one in cut_blocks(raw.read(at, some))):
                        raise _lies(disk, at)
                for number in range(first, first + count):
                    held[number] = HOLE
                progress.add(count * BLOCK, verified=count * BLOCK)
            raw.flush()

    def _fetch(
        self,
        disk: TargetDisk,
        version: str,
        numbers: List[int],
        wanted: bytes,
        progress: PullProgress,
    ) -> None:
        batches: queue.SimpleQueue[List[int]] = queue.SimpleQueue()
        count = 0
        for at in range(0, len(numbers), BATCH_BLOCKS):
            batches.put(numbers[at : at + BATCH_BLOCKS])
            count += 1
        workers = min(WORKERS, count)
        if not workers:
            return
        broken = threading.Event()

        def work() -> None:
            client = self._connect()
            try:
                with DirectDisk(disk.path, writable=True) as raw:
                    while not broken.is_set():
                        try:
                            batch = batches.get_nowait()
                        except queue.Empty:
                            break
                        self._check_stop()
                        self._one_batch(disk, version, batch, wanted, client, raw, progress)
                    raw.flush()
            except BaseException:
                broken.set()
                raise
            finally:
                client.close()

        with ThreadPoolExecutor(workers) as pool:
            running = [pool.submit(work) for _ in range(workers)]
        for one in running:
            one.result()

    def _one_batch(
        self,
        disk: TargetDisk,
        version: str,
        batch: List[int],
        wanted: bytes,
        client: Client,
        raw: DirectDisk,
        progress: PullProgress,
    ) -> None:
        held = self._held[disk.index]
        path = f"/target/v1/want?version={version}"
        frame = self._ask(client, "POST", path, write_want(disk.index, batch), FRAME_LIMIT)
        last = held.blocks - 1
        # the image may end within a block: how long the last one is, the frame itself says
        length = HEADER.unpack_from(frame)[4] if len(frame) >= HEADER.size else 0
        tail = length - (len(batch) - 1) * BLOCK
        got = read_blocks(frame, last, tail if 0 < tail <= BLOCK and last in batch else BLOCK)
        if got.disk != disk.index or [number for number, _ in got.entries] != batch:
            raise NotfallError("bad-answer", "The server sent other blocks than asked for.", "")
        payload = memoryview(got.payload)
        at = 0
        for first, count in runs_of(batch):
            digests = [wanted[n * HASH : n * HASH + HASH] for n in range(first, first + count)]
            data = payload[at : at + count * BLOCK]
            at += count * BLOCK
            if [hash_block(one) for one in cut_blocks(data)] != digests:
                raise NotfallError(
                    "version-damaged",
                    f"Block {first} of disk {disk.index} does not fit its hash in the version.",
                    "The pool may be damaged: check the version on the server.",
                    status=500,
                )
            for number in range(first, first + count):
                held[number] = UNKNOWN
            raw.write(first * BLOCK, data)
            back = raw.read(first * BLOCK, len(data))
            if [hash_block(one) for one in cut_blocks(back)] != digests:
                raise _lies(disk, first * BLOCK)
            for number, digest in zip(range(first, first + count), digests):
                held[number] = digest
            progress.add(len(data), written=len(data), verified=len(data))

    def _ask(self, client: Client, method: str, path: str, frame: bytes, limit: int) -> bytes:
        """Ask until the server answers: it may be restarting."""
        while True:
            try:
                return client.send(method, path, frame, limit)
            except NotfallError as error:
                if not error.retry:
                    raise
            self._check_stop()
            time.sleep(1)

    def _check_stop(self) -> None:
        if self.stopped.is_set():
            raise NotfallError("stopped", "The work was stopped.", "", retry=True)


def _lies(disk: TargetDisk, offset: int) -> NotfallError:
    return NotfallError(
        "disk-lies",
        f"The disk {disk.name} does not give back what was written at byte {offset}.",
        "Replace the disk.",
        status=500,
    )
