"""Reading and writing whole disks past the page cache.

Buffers are aligned by being anonymous maps. A read back with O_DIRECT comes from the disk, so a
comparison proves what the disk holds, not what the kernel remembers.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from contextlib import contextmanager
from types import TracebackType
from typing import Iterator, List, Optional, Tuple, Type

from notfallserver.wire.blocks import BLOCK, Buffer
from notfallserver.wire.errors import NotfallError

PIECE = 64 * BLOCK
"""The buffer, in bytes: most that is read or written at once."""
_PUNCH = 0x1 | 0x2  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


@contextmanager
def claimed(path: str) -> Iterator[None]:
    """Nobody else mounts or claims the disk, or a partition of it, inside this block.

    Refused while somebody does. Our own handles are plain ones: a claim excludes other claims.
    """
    handle = os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
    try:
        yield
    finally:
        os.close(handle)


class DirectDisk:
    """One open disk with one aligned buffer; belongs to one thread."""

    def __init__(self, path: str, writable: bool) -> None:
        mode = os.O_RDWR if writable else os.O_RDONLY
        self._handle = os.open(path, mode | os.O_DIRECT | os.O_CLOEXEC)
        self._buffer = mmap.mmap(-1, PIECE)
        self._view = memoryview(self._buffer)

    def __enter__(self) -> DirectDisk:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._view.release()
        try:
            self._buffer.close()
        except BufferError:
            pass  # a slice is still alive somewhere up an exception's frames
        os.close(self._handle)

    def read(self, offset: int, length: int) -> memoryview:
        """At most 4 MiB; valid until the next call."""
        done = 0
        while done < length:
            got = os.preadv(self._handle, [self._view[done:length]], offset + done)
            if got <= 0:
                raise NotfallError(
                    "disk-error", f"The disk cannot be read at byte {offset + done}.", "Replace it."
                )
            done += got
        return self._view[:length]

    def write(self, offset: int, data: Buffer) -> None:
        """At most 4 MiB."""
        length = len(data)
        self._view[:length] = data
        done = 0
        while done < length:
            done += os.pwritev(self._handle, [self._view[done:length]], offset + done)

    def punch(self, offset: int, length: int) -> bool:
        """Have the device itself zero a range; False where it cannot."""
        if _libc.fallocate(self._handle, _PUNCH, offset, length) == 0:
            return True
        failed = ctypes.get_errno()
        if failed in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV):
            return False
        raise OSError(failed, os.strerror(failed))

    def zero(self, offset: int, length: int) -> None:
        """A range that reads as zero from now on."""
        if self.punch(offset, length):
            return
        empty = bytes(min(length, PIECE))
        for at, some in pieces(offset, length):
            self.write(at, memoryview(empty)[:some])

    def flush(self) -> None:
        os.fsync(self._handle)


def pieces(offset: int, length: int) -> Iterator[Tuple[int, int]]:
    """A range in pieces that fit the buffer."""
    end = offset + length
    while offset < end:
        step = min(PIECE, end - offset)
        yield offset, step
        offset += step


def cut_blocks(data: memoryview) -> List[memoryview]:
    """A piece as its single blocks."""
    return [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]
