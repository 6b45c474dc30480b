"""Writes an image onto a whole disk so that it starts from it, and reads it back.

Order: the old beginning and end are wiped; then everything but the first MiB is written and proved;
the first MiB (partition table, boot code) comes last. So a disk that was left half written starts
nowhere, and nobody takes it for a whole one.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from notfallserver.server.media.gpt import move_backup
from notfallserver.wire.blocks import BLOCK, HOLE, block_count, block_length, hash_block
from notfallserver.wire.errors import NotfallError

HEAD = 1 << 20
_STEP = 4 << 20
_BLKZEROOUT, _BLKRRPART, _BLKFLSBUF = 0x127F, 0x125F, 0x1261

Tell = Callable[[int], None]
"""Hears each number of bytes; may raise to give up."""


@dataclass(frozen=True)
class Image:
    """``hashes(first, count)``: what its blocks must have."""

    raw: Path
    size: int
    sector: int
    hashes: Callable[[int, int], Sequence[bytes]]


class _Disk:
    """Held alone; reads come from the disk itself."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self.handle = os.open(path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            raise NotfallError(
                "export-disk-busy",
                f"{path} is in use. Nothing was written.",
                "Unmount it, if it is really the right one.",
                status=409,
            ) from None
        try:
            self._direct = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        except OSError:
            os.close(self.handle)
            raise
        self._buffer = mmap.mmap(-1, _STEP)
        self.size = os.lseek(self.handle, 0, os.SEEK_END)

    def write(self, at: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            done = os.pwrite(self.handle, view, at)
            view, at = view[done:], at + done

    def zero(self, at: int, length: int) -> None:
        """By the disk's own means, where it has any."""
        try:
            fcntl.ioctl(self.handle, _BLKZEROOUT, struct.pack("=QQ", at, length))
        except OSError:
            for start in range(at, at + length, _STEP):
                self.write(start, bytes(min(_STEP, at + length - start)))

    def read(self, at: int, length: int) -> bytes:
        """``length`` at most :data:`_STEP`; both in sectors."""
        done = 0
        with memoryview(self._buffer) as view:
            while done < length:
                got = os.preadv(self._direct, [view[done:length]], at + done)
                if not got:
                    break
                done += got
            return bytes(view[:done])

    def sync(self) -> None:
        os.fsync(self.handle)
        try:
            fcntl.ioctl(self.handle, _BLKFLSBUF)
        except OSError:
            pass

    def close(self) -> None:
        try:
            fcntl.ioctl(self.handle, _BLKRRPART)
        except OSError:
            pass  # the kernel reads the new table when the disk is plugged in again
        os.close(self._direct)
        os.close(self.handle)
        self._buffer.close()


def write_disk(image: Image, path: str, tell: Tell) -> int:
    """Returns the bytes of content that were written."""
    disk = _Disk(path)
    try:
        end = disk.size - disk.size % image.sector
        disk.zero(0, min(HEAD, end))
        tail = max(image.size, HEAD, end - HEAD)
        if tail < end:
            disk.zero(tail, end - tail)
        disk.sync()
        with image.raw.open("rb") as source:
            written = _write_rest(image, disk, source.fileno(), tell)
            head = os.pread(source.fileno(), min(HEAD, image.size), 0)
        hashes = image.hashes(0, block_count(len(head)))
        blocks = [head[at : at + BLOCK] for at in range(0, len(head), BLOCK)]
        if [hash_block(one) for one in blocks] != list(hashes):
            raise _damaged(0)
        head, at, backup = move_backup(head, end, image.sector)
        if backup and at >= image.size:
            disk.write(at, backup)
        elif backup:  # the same size: it is where it belongs already
            head, backup = b"".join(blocks), b""
        disk.sync()
        _prove_rest(image, disk, tell)
        if backup and disk.read(at, len(backup)) != backup:
            raise _differs(path, at)
        disk.write(0, head)
        disk.sync()
        if (
            b"".join(disk.read(n, min(_STEP, len(head) - n)) for n in range(0, len(head), _STEP))
            != head
        ):
            raise _differs(path, 0)
        return written + len(head)
    except OSError as error:
        raise NotfallError(
            "disk-write-failed",
            f"{path} can't be written: {error.strerror}.",
            "The disk may be worn out or was pulled out: take another one. It does not start.",
            status=500,
        ) from None
    finally:
        disk.close()


def _write_rest(image: Image, disk: _Disk, source: int, tell: Tell) -> int:
    written, blocks = 0, block_count(image.size)
    step = _STEP // BLOCK
    for first in range(HEAD // BLOCK, blocks, step):
        count = min(step, blocks - first)
        hashes = image.hashes(first, count)
        length = min(count * BLOCK, image.size - first * BLOCK)
        if all(one == HOLE for one in hashes):
            disk.zero(first * BLOCK, length)
        else:
            data = os.pread(source, length, first * BLOCK)
            for number, digest in enumerate(hashes):
                if hash_block(data[number * BLOCK : (number + 1) * BLOCK]) != digest:
                    raise _damaged(first + number)
            disk.write(first * BLOCK, data)
            written += length
        tell(length)
        if first // step % 64 == 0:
            disk.sync()  # so that what is told is on the disk, and not in this server's memory
    return written


def _prove_rest(image: Image, disk: _Disk, tell: Tell) -> None:
    blocks = block_count(image.size)
    step = _STEP // BLOCK
    for first in range(HEAD // BLOCK, blocks, step):
        count = min(step, blocks - first)
        length = min(count * BLOCK, image.size - first * BLOCK)
        data = disk.read(first * BLOCK, length)
        for number, digest in enumerate(image.hashes(first, count)):
            part = data[number * BLOCK : number * BLOCK + block_length(first + number, image.size)]
            if not part or hash_block(part) != digest:
                raise _differs(disk.path, (first + number) * BLOCK)
        tell(length)


def _damaged(number: int) -> NotfallError:
    return NotfallError(
        "copy-damaged",
        f"Block {number} of the copy is damaged.",
        "Check the versions (notfall scrub), or take another one. The disk does not start.",
        status=409,
    )


def _differs(path: str, at: int) -> NotfallError:
    return NotfallError(
        "disk-differs",
        f"{path} gives back something else than was written, at byte {at}.",
        "The disk is worn out or a fraud: take another one.",
        status=500,
    )
