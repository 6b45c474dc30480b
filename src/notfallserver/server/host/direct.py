"""Writing and reading long stretches of a file past the page cache.

A replication writes more than the memory holds, and nobody reads it soon: through the cache every
byte would be copied once more, push out what is useful there, and wait for the fsync at the end.
Short stretches are better left to the cache, which sorts them before they reach the disk. And who
checks what is on the disk must not be shown what the cache remembers of it.
"""

from __future__ import annotations

import ctypes
import errno
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
        whole = memoryview(data)[:length]
        if _is_aligned(whole):
            return os.pwrite(self._handle, whole, offset) // _ALIGN * _ALIGN
        buffer = _free.get()
        try:
            return self._pass_on(whole, offset, buffer)
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


def _is_aligned(data: memoryview) -> bool:
    """Whether the kernel can take it from where it lies; what can't be written to, we don't ask."""
    return not data.readonly and not ctypes.addressof(ctypes.c_char.from_buffer(data)) % _ALIGN


class DirectReader:
    """A file open for reading what is on the disk; where that can't be, the cache is dropped first.

    Not thread-safe: what :meth:`read` returns is good until the next call.
    """

    MOST = _LENGTH
    """So many bytes can be read at once."""

    def __init__(self, path: Path) -> None:
        self.handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._direct = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        except OSError:
            self._direct = -1
        self._buffer = mmap.mmap(-1, _LENGTH)

    def read(self, offset: int, length: int) -> memoryview:
        """Up to ``length`` bytes from ``offset`` (a multiple of 4096); fewer at the file's end."""
        if self._direct >= 0:
            try:
                return self._read(self._direct, offset, length)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                os.close(self._direct)
                self._direct = -1
        os.posix_fadvise(self.handle, offset, length, os.POSIX_FADV_DONTNEED)
        try:
            return self._read(self.handle, offset, length)
        finally:
            os.posix_fadvise(self.handle, offset, length, os.POSIX_FADV_DONTNEED)

    def _read(self, handle: int, offset: int, length: int) -> memoryview:
        whole = memoryview(self._buffer)[: -(-length // _ALIGN) * _ALIGN]
        done = 0
        while done < length:
            got = os.preadv(handle, [whole[done:]], offset + done)
            done += got
            if not got or done % _ALIGN:  # only the file's end is not aligned
                break
        return whole[: min(done, length)]

    def close(self) -> None:
        os.close(self.handle)
        if self._direct >= 0:
            os.close(self._direct)

    def __enter__(self) -> DirectReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def forget_cached(path: Path) -> None:
    """Drop what the page cache holds of a file, so that the next reading asks the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)
