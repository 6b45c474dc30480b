"""Giving the disks of this machine to the server: read, hash, offer, send what it lacks.

Recovery the other way round: nothing is written here. The whole of each disk is read, because
nothing here knows what a file system uses; the machine's own system does not run, so all is of one
moment. What was offered may be offered again, to another run too.
"""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Callable, List, Sequence, Tuple

from notfallserver.rescue.direct import DirectDisk, claimed, cut_blocks, pieces
from notfallserver.rescue.pull import PullProgress
from notfallserver.rescue.targets import TargetDisk
from notfallserver.wire.blocks import BLOCK, HOLE, hash_block
from notfallserver.wire.client import Client
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.frames import FRAME_LIMIT, PLAIN, Offer, write_blocks, write_offer

WORKERS = 4
"""Each has a connection and a buffer of 4 MiB."""
Place = Tuple[TargetDisk, int, int]  # disk, offset, length


class Giver:
    """All disks of one order; ``run`` is the server's, ``connect`` opens a client for a thread."""

    def __init__(
        self,
        disks: Sequence[TargetDisk],
        run: str,
        connect: Callable[[], Client],
        stopped: threading.Event,
    ) -> None:
        self.disks = list(disks)
        self._run = run
        self._connect = connect
        self._stopped = stopped
        self._broken = threading.Event()

    def give(self, progress: PullProgress) -> None:
        """Afterwards the server has heard of every block."""
        places: queue.SimpleQueue[Place] = queue.SimpleQueue()
        for disk in self.disks:
            for offset, length in pieces(0, disk.size):
                places.put((disk, offset, length))
        progress.begin("reading", sum(disk.size for disk in self.disks))
        with ExitStack() as stack:
            for disk in self.disks:
                stack.enter_context(claimed(disk.path))
            with ThreadPoolExecutor(WORKERS) as pool:
                running = [pool.submit(self._work, places, progress) for _ in range(WORKERS)]
            for one in running:
                one.result()

    def _work(self, places: queue.SimpleQueue[Place], progress: PullProgress) -> None:
        client = self._connect()
        try:
            with ExitStack() as stack:
                opened = {
                    disk.index: stack.enter_context(DirectDisk(disk.path, writable=False))
                    for disk in self.disks
                }
                while not self._broken.is_set():
                    try:
                        disk, offset, length = places.get_nowait()
                    except queue.Empty:
                        return
                    self._give(client, disk, offset, opened[disk.index].read(offset, length))
                    progress.add(length)
        except BaseException:
            self._broken.set()
            raise
        finally:
            client.close()

    def _give(self, client: Client, disk: TargetDisk, offset: int, data: memoryview) -> None:
        blocks = cut_blocks(data)
        first = offset // BLOCK
        offer: Offer = [(first + at, hash_block(one)) for at, one in enumerate(blocks)]
        bitmap = self._ask(client, "offer", write_offer(disk.index, offer))
        if len(bitmap) != (len(offer) + 7) // 8:
            raise NotfallError("bad-answer", "The server's answer has another length.", "")
        wanted = [
            at
            for at, (_, digest) in enumerate(offer)
            if bitmap[at >> 3] & 0x80 >> (at & 7) and digest != HOLE
        ]
        if wanted:
            content = b"".join(blocks[at] for at in wanted)
            entries: List[Tuple[int, bytes]] = [offer[at] for at in wanted]
            self._ask(client, "blocks", write_blocks(disk.index, entries, content, PLAIN))

    def _ask(self, client: Client, what: str, frame: bytes) -> bytes:
        """Ask until the server answers: it may be restarting, and then another run begins."""
        while True:
            if self._stopped.is_set() or self._broken.is_set():
                raise NotfallError("stopped", "The work was stopped.", "", retry=True)
            try:
                return client.send("POST", f"/target/v1/{what}?run={self._run}", frame, FRAME_LIMIT)
            except NotfallError as error:
                if not error.retry or error.code == "run-over":
                    raise
            time.sleep(1)
