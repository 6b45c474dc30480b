"""Ways to change a file's blocks, one for each known hole of "its ctime tells": needs root.

Each is a function of a directory; it gets ready at once (all files, synced) and returns what does
the change later. Files are 1 MiB, so that each has whole blocks of its own.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

from agent_receiver import command, loop_device

MIB = 1 << 20
Change = Callable[[], object]


def new_file(path: Path, size: int = MIB) -> Path:
    path.write_bytes(os.urandom(size))
    return path


def _pwrite(path: Path, at: int = 128 << 10) -> None:
    with path.open("r+b", 0) as stream:
        os.pwrite(stream.fileno(), os.urandom(256 << 10), at)


def buffered(place: Path) -> Change:
    path = new_file(place / "buffered")
    return lambda: _pwrite(path)


def faked_times(place: Path) -> Change:
    path = new_file(place / "faked")

    def change() -> None:
        before = path.stat()
        _pwrite(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return change


def past_the_cache(place: Path) -> Change:
    path = new_file(place / "direct")

    def change() -> None:
        handle = os.open(path, os.O_RDWR | os.O_DIRECT)
        with mmap.mmap(-1, 256 << 10) as buffer:
            buffer.write(os.urandom(256 << 10))
            os.pwritev(handle, [buffer], 128 << 10)
        os.close(handle)

    return change


def mapped(place: Path) -> Change:
    path = new_file(place / "mapped")

    def change() -> None:
        with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as memory:
            memory[MIB // 2 : MIB // 2 + 4096] = os.urandom(4096)

    return change


def mapped_all_along(place: Path) -> Change:
    """Its page was written before, and stays mapped and writable in the process."""
    path = new_file(place / "mapped-before")
    with path.open("r+b") as stream:
        memory = mmap.mmap(stream.fileno(), 0)
    memory[MIB // 2] ^= 1

    def change() -> None:
        memory[MIB // 2 : MIB // 2 + 4096] = os.urandom(4096)
        memory.close()

    return change


def open_all_along(place: Path) -> Change:
    handle = os.open(new_file(place / "open"), os.O_RDWR)

    def change() -> None:
        os.pwrite(handle, os.urandom(4096), 512 << 10)
        os.close(handle)

    return change


def by_the_boot_loader(place: Path) -> Change:
    """As GRUB writes its environment: into the blocks of the file, past the filesystem."""
    path = new_file(place / "grubenv")

    def change() -> None:
        device = command("findmnt", "-n", "-o", "SOURCE", place)
        handle = os.open(device, os.O_RDWR | os.O_DIRECT)
        with mmap.mmap(-1, 4096) as buffer:
            buffer.write(os.urandom(4096))
            start = _places(path)[0][0] * os.statvfs(place).f_bsize
            os.pwritev(handle, [buffer], start + (512 << 10))
        os.close(handle)

    return change


def by_ring(place: Path) -> Change:
    """io_uring: a ring of one entry, by bare system calls."""
    path = new_file(place / "ring")

    def change() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        told = ctypes.create_string_buffer(120)
        ring = libc.syscall(425, 1, told)
        assert ring >= 0, os.strerror(ctypes.get_errno())
        tail, mask, array = (struct.unpack_from("=I", told, at)[0] for at in (44, 48, 64))
        queue = mmap.mmap(ring, 4096, offset=0)
        entries = mmap.mmap(ring, 4096, offset=0x10000000)
        data = mmap.mmap(-1, 4096)
        data.write(os.urandom(4096))
        at = ctypes.addressof(ctypes.c_char.from_buffer(data))
        handle = os.open(path, os.O_RDWR)
        struct.pack_into("=BBHiQQI", entries, 0, 23, 0, 0, handle, 512 << 10, at, 4096)
        assert struct.unpack_from("=I", queue, mask)[0] == 0
        struct.pack_into("=I", queue, array, 0)
        struct.pack_into("=I", queue, tail, 1)
        assert libc.syscall(426, ring, 1, 1, 1, None, 0) == 1
        os.close(handle)
        os.close(ring)
        assert path.read_bytes()[512 << 10 : 516 << 10] == bytes(data)

    return change


def through_a_loop_device(place: Path) -> Change:
    path = new_file(place / "loop")

    def change() -> None:
        with loop_device(path) as device, Path(device).open("r+b", 0) as stream:
            os.pwrite(stream.fileno(), os.urandom(64 << 10), 128 << 10)
            os.fsync(stream.fileno())

    return change


def _by_xfs_io(place: Path, name: str, *commands: str) -> Change:
    path = new_file(place / name)
    options = [part for one in commands for part in ("-c", one)]
    return lambda: command("xfs_io", *options, path)


def punched(place: Path) -> Change:
    return _by_xfs_io(place, "punched", "fpunch 128k 256k")


def zeroed(place: Path) -> Change:
    return _by_xfs_io(place, "zeroed", "fzero 128k 256k")


def collapsed(place: Path) -> Change:
    return _by_xfs_io(place, "collapsed", "fcollapse 128k 256k")


def inserted(place: Path) -> Change:
    return _by_xfs_io(place, "inserted", "finsert 128k 256k")


def converted(place: Path) -> Change:
    path = place / "unwritten"
    command("xfs_io", "-f", "-c", "falloc 0 1m", path)
    return lambda: command("xfs_io", "-d", "-c", "pwrite -S 0x5a 128k 256k", path)


def reused_inode(place: Path) -> Change:
    path = new_file(place / "reused")

    def change() -> None:
        number = path.stat().st_ino
        path.unlink()
        spare = [new_file(place / f"spare{one}", 128 << 10) for one in range(40)]
        assert number in {one.stat().st_ino for one in spare}

    return change


def replaced(place: Path) -> Change:
    path = new_file(place / "replaced")
    return lambda: new_file(place / "replaced.new").rename(path)


def in_pieces(place: Path) -> Change:
    """Its extents need a tree of blocks of their own; one of its pieces changes."""
    path = place / "pieces"
    with path.open("wb", 0) as stream:
        for piece in range(500):
            os.pwrite(stream.fileno(), os.urandom(4096), piece * 8192)
    return lambda: _pwrite(path, 1600 << 10)


def _places(path: Path) -> list[tuple[int, int]]:
    """First and last block of each piece."""
    told = command("filefrag", "-e", path)
    found = re.findall(r"^ +\d+: +\d+\.\. +\d+: +(\d+)\.\. +(\d+):", told, re.MULTILINE)
    return [(int(first), int(last)) for first, last in found]


def _take_all(path: Path) -> None:
    """Allocate what is free, but for crumbs."""
    end, step = 0, 256 * MIB
    with path.open("wb") as stream:
        while step >= 128 << 10:
            try:
                os.posix_fallocate(stream.fileno(), end, step)
                end += step
            except OSError:
                step //= 2


def defragmented(place: Path) -> Change:
    """ext4: its blocks move to where another file was, and no time of the file changes."""
    path, room = new_file(place / "defragmented", 2 * MIB), new_file(place / "room", 8 * MIB)
    pieces = [part for at in range(64, 1024, 64) for part in ("-c", f"fcollapse {at}k 64k")]
    command("xfs_io", *pieces, path)

    def change() -> None:
        times, there, rest = path.stat(), _places(room), place / "rest"
        command("sync", "-f", place)  # what others have freed is free only then
        _take_all(rest)  # so that only the room is free
        room.unlink()
        command("sync", "-f", place)
        command("e4defrag", path)
        rest.unlink()
        assert path.stat().st_ctime_ns == times.st_ctime_ns
        now = _places(path)
        assert any(first <= one[0] <= last for first, last in there for one in now)

    return change


def exchanged(place: Path) -> Change:
    """XFS, as xfs_fsr does it: the file gets the blocks of a copy, and keeps its times."""
    path, other = new_file(place / "exchanged"), new_file(place / "donor")

    def change() -> None:
        times, there = path.stat(), _places(other)
        with other.open("r+b") as stream:
            stream.write(path.read_bytes())
        command("sync", "-f", place)
        command("xfs_io", "-c", f"swapext {other}", path)
        assert path.stat().st_ctime_ns == times.st_ctime_ns
        assert _places(path) == there

    return change


def shared(place: Path) -> Change:
    one, two = new_file(place / "shared"), new_file(place / "source")
    return lambda: command("xfs_io", "-c", f"reflink {two} 0 128k 256k", one)


def unshared(place: Path) -> Change:
    one = new_file(place / "whole")
    command("cp", "--reflink=always", one, place / "clone")
    return lambda: _pwrite(one)


def deduplicated(place: Path) -> Change:
    one, two = new_file(place / "twin"), place / "twin2"
    two.write_bytes(one.read_bytes())
    return lambda: command("xfs_io", "-c", f"dedupe {one} 0 0 1m", two)


EVERYWHERE = [
    buffered,
    faked_times,
    past_the_cache,
    mapped,
    mapped_all_along,
    open_all_along,
    by_the_boot_loader,
    by_ring,
    through_a_loop_device,
    punched,
    zeroed,
    collapsed,
    inserted,
    converted,
    reused_inode,
    replaced,
    in_pieces,
]
ON_EXT4 = [defragmented]
ON_XFS = [shared, unshared, deduplicated, exchanged]
