"""Reflink clones, holes, and the difference of two clones without reading them.

A clone shares its blocks with the original until one of both is written (XFS with reflink, Btrfs).
Where the filesystem cannot do it, :func:`clone_file` makes a sparse copy and says so in its result.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from ctypes import CDLL, c_int, c_int64, get_errno
from dataclasses import dataclass
from pathlib import Path

from notfallserver.server.host.run import run
from notfallserver.wire.blocks import BLOCK, Run

_FICLONE = 0x40049409
_FICLONERANGE = 0x4020940D
_FS_IOC_FIEMAP = 0xC020660B
_FIEMAP_SYNC = 1
_FIEMAP_LAST = 1
_FIEMAP_UNSURE = 0x2 | 0x4 | 0x8  # unknown place, delayed, encoded
_FIEMAP_UNWRITTEN = 0x800
_RANGE = struct.Struct("=qQQQ")
_HEAD = struct.Struct("=QQIIII")
_EXTENT = struct.Struct("=QQQQQIIII")
_EXTENTS_A_CALL = 1024
_PUNCH = 0x1 | 0x2  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE

_libc = CDLL("libc.so.6", use_errno=True)
_libc.fallocate.argtypes = [c_int, c_int, c_int64, c_int64]


def clone_file(source: Path, target: Path) -> bool:
    """Clone ``source`` to the new file ``target``; False when it had to be copied sparsely."""
    with source.open("rb") as old, target.open("xb") as new:
        try:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY):
                raise
        else:
            return True
    run(["cp", "--sparse=always", "--no-preserve=all", source, target], timeout=24 * 3600)
    return False


def copy_range(source: int, at: int, target: int, to: int, length: int) -> bool:
    """Make ``length`` bytes of an open file hold what another one holds; True when they share it.

    Places and length must be multiples of the filesystem's block to be shared; else it is copied.
    Fewer bytes than asked for are copied when the source ends before.
    """
    try:
        fcntl.ioctl(target, _FICLONERANGE, _RANGE.pack(source, at, length, to))
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY):
            raise
    else:
        return True
    done = 0
    while done < length:
        piece = os.pread(source, min(length - done, BLOCK), at + done)
        if not piece:
            break
        written = 0
        while written < len(piece):
            written += os.pwrite(target, piece[written:], to + done + written)
        done += written
    return False


def can_reflink(directory: Path) -> bool:
    """Whether files in ``directory`` can share blocks; tried, not guessed."""
    probe, copy = directory / ".reflink-probe", directory / ".reflink-probe-copy"
    try:
        probe.write_bytes(bytes(4096))
        copy.unlink(missing_ok=True)
        with probe.open("rb") as old, copy.open("xb") as new:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
    except OSError:
        return False
    else:
        return True
    finally:
        probe.unlink(missing_ok=True)
        copy.unlink(missing_ok=True)


def punch_hole(handle: int, start: int, length: int) -> None:
    """Give back the space of ``length`` bytes from ``start``; they read as zero afterwards."""
    if _libc.fallocate(handle, _PUNCH, start, length) == 0:
        return
    number = get_errno()
    if number not in (errno.EOPNOTSUPP, errno.ENOSYS):
        raise OSError(number, os.strerror(number))
    zeros = bytes(BLOCK)
    while length > 0:
        length -= os.pwrite(handle, zeros[: min(length, BLOCK)], start)
        start += BLOCK


@dataclass(frozen=True)
class Extent:
    """A stretch of a file and where it lies on the device; -1 where that can't be told."""

    start: int
    place: int
    length: int


def extents(path: Path) -> list[Extent]:
    """The written extents of a file in order; holes and unwritten space are left out."""
    with path.open("rb") as stream:
        return list(_walk(stream.fileno()))


def _walk(handle: int, start: int = 0, end: int = (1 << 64) - 1) -> Iterator[Extent]:
    """The extents that touch the bytes from ``start`` to ``end``; not cut to them."""
    while start < end:
        request = array.array("B", bytes(_HEAD.size + _EXTENTS_A_CALL * _EXTENT.size))
        _HEAD.pack_into(request, 0, start, end - start, _FIEMAP_SYNC, 0, _EXTENTS_A_CALL, 0)
        fcntl.ioctl(handle, _FS_IOC_FIEMAP, request, True)
        count = _HEAD.unpack_from(request)[3]
        if not count:
            return
        flags = 0
        for index in range(count):
            logical, physical, length, _, _, flags, *_ = _EXTENT.unpack_from(
                request, _HEAD.size + index * _EXTENT.size
            )
            start = logical + length
            if not flags & _FIEMAP_UNWRITTEN:
                yield Extent(logical, -1 if flags & _FIEMAP_UNSURE else physical, length)
        if flags & _FIEMAP_LAST:
            return


def differing_blocks(old: Path, new: Path, size: int) -> list[Run]:
    """Runs of 64 KiB blocks that may differ between two clones; no content is read.

    Equal place on the device means equal content. Sound also for files that were never clones of
    each other: then nothing is equal and all written blocks of both are named.
    """
    return unlike_blocks(extents(old), extents(new), size)


def moved_extents(source: Path, at: int, to: int, length: int) -> list[Extent]:
    """What a file holds in ``length`` bytes from ``at`` on, told as if it began at ``to``."""
    found = []
    with source.open("rb") as stream:
        for one in _walk(stream.fileno(), at, at + length):
            start, end = max(one.start, at), min(one.start + one.length, at + length)
            place = one.place if one.place < 0 else one.place + start - one.start
            if start < end:
                found.append(Extent(start - at + to, place, end - start))
    return found


def unlike_blocks(here: list[Extent], there: list[Extent], size: int) -> list[Run]:
    """Runs of 64 KiB blocks in which two lists of extents don't show the same place."""
    marks = bytearray((size + BLOCK - 1) // BLOCK)
    for start, end in _unlike(here, there, size):
        first, last = start // BLOCK, (end - 1) // BLOCK
        marks[first : last + 1] = b"\1" * (last + 1 - first)
    return marked_runs(marks)


def marked_runs(marks: bytes | bytearray) -> list[Run]:
    """Runs of bytes that are not zero, found at the speed of bytes.find."""
    runs: list[Run] = []
    at = marks.find(1)
    while at >= 0:
        end = marks.find(0, at)
        end = len(marks) if end < 0 else end
        runs.append((at, end - at))
        at = marks.find(1, end)
    return runs


def shared_blocks(one: int, other: int, first: int, count: int, size: int) -> bytearray:
    """For each of ``count`` blocks from ``first`` on: 1 where two open files lie in the same place.

    A hole in both counts as the same place. Where the filesystem tells no places, nothing is.
    """
    start, end = first * BLOCK, min((first + count) * BLOCK, size)
    marks = bytearray(b"\1" * count)
    try:
        here, there = list(_walk(one, start, end)), list(_walk(other, start, end))
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL):
            raise
        return bytearray(count)
    for begin, until in _unlike(here, there, end):
        if until > start:
            left, right = max(begin, start) // BLOCK - first, (until - 1) // BLOCK - first
            marks[left : right + 1] = bytes(right + 1 - left)
    return marks


def written_stretches(
    handle: int, start: int = 0, stop: int = 1 << 62
) -> Iterator[tuple[int, int]]:
    """Begin and end, in bytes, of what an open file holds between its holes."""
    while start < stop:
        try:
            begin = os.lseek(handle, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # no more data
                raise
            return
        start = os.lseek(handle, begin, os.SEEK_HOLE)
        if begin < stop:
            yield begin, min(start, stop)


def _unlike(here: list[Extent], there: list[Extent], size: int) -> Iterator[tuple[int, int]]:
    """Byte stretches in which two extent lists don't show the same place."""
    cuts = sorted(
        {0, size}
        | {min(edge, size) for one in here + there for edge in (one.start, one.start + one.length)}
    )
    left = right = 0
    for start, end in zip(cuts, cuts[1:], strict=False):
        while left < len(here) and here[left].start + here[left].length <= start:
            left += 1
        while right < len(there) and there[right].start + there[right].length <= start:
            right += 1
        one = _place(here, left, start)
        two = _place(there, right, start)
        if one != two or one == -1:
            yield start, end


def _place(extents_in_order: list[Extent], index: int, at: int) -> int | None:
    """Where byte ``at`` lies: None in a hole, -1 when unsure."""
    if index >= len(extents_in_order) or extents_in_order[index].start > at:
        return None
    one = extents_in_order[index]
    return -1 if one.place < 0 else one.place + at - one.start
