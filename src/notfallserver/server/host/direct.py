"""Writing long stretches of a file past the page cache.

A replication writes more than the memory holds, and nobody reads it soon: through the cache every
byte would be copied once more, push out what is useful there, and wait for the fsync at the end.
Short stretches are better left to the cache, which sorts them before they reach the disk.
"""

from __future__ import annotations

import mmap
import os
import queue
from pathlib import Path

from notfallserver.wire.blocks import Buffer

WORTH = 512 << 10
"""Shorter stretches go through the cache, in bytes."""
_ALIGN = 4096
_LENGTH = 1 << 20
_BUFFERS = 16

_free: queue.SimpleQueue[mmap.mmap] = queue.SimpleQueue()
for _ in range(_BUFFERS):  # address space only; memory is taken by the first use
    _free.put(mmap.mmap(-1, _LENGTH))


class DirectFile:
    """A file open for direct writing, if its filesystem allows that. Thread-safe."""

    def __init__(self, path: Path) -> None:
        try:
            self._handle = os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
        except OSError:
            self._handle = -1  # tmpfs, FUSE and others can't

    def write(self, data: Buffer, offset: int) -> int:
        """Write what can be written this way, from the start of ``data``; returns its length."""
        length = len(data) // _ALIGN * _ALIGN
        if self._handle < 0 or length < WORTH or offset % _ALIGN:
            return 0
        buffer = _free.get()
        try:
            return self._pass_on(memoryview(data)[:length], offset, buffer)
        finally:
            _free.put(buffer)

    def _pass_on(self, data: memoryview, offset: int, buffer: mmap.mmap) -> int:
        """In pieces through an aligned buffer that stays in the processor's cache."""
        done = 0
        with memoryview(buffer) as aligned:
            while done < len(data):
                step = min(_LENGTH, len(data) - done)
                aligned[:step] = data[done : done + step]
                written = os.pwrite(self._handle, aligned[:step], offset + done)
                done += written
                if written != step:
                    break
        return done // _ALIGN * _ALIGN

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
