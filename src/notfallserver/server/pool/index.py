"""The block index of one disk as a file: 16 bytes per block.

Three kinds of entries: a hash, :data:`HOLE`, and :data:`UNKNOWN` (being written). A block's entry
is set to UNKNOWN before its content changes and to the new hash after, so an entry never tells
of content that is not in the image, wherever the process is killed. (After a power cut the order
of pages on the disk is not known; then the whole unfinished version is dropped.)

It is read and written by calls, not mapped into memory: on a full filesystem, or where its disk
can't be read, a call fails with :class:`OSError`, but a page of a map ends the process (SIGBUS).
"""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from types import TracebackType

from notfallserver.wire.blocks import HASH, HOLE, UNKNOWN, block_count

_AT_ONCE = 4096
_EMPTY = bytes(_AT_ONCE * HASH)


def make_index(path: Path, size: int) -> None:
    """A new index of a disk of ``size`` bytes on which all blocks are holes."""
    with path.open("xb") as stream:
        stream.truncate(block_count(size) * HASH)


def fit_index(path: Path, size: int) -> None:
    """Make an index as long as a disk of ``size`` bytes needs it."""
    os.truncate(path, block_count(size) * HASH)


def hash_index(path: Path) -> str:
    """BLAKE2b-256 of an index file, hexadecimal: what a manifest holds of each disk."""
    digest = blake2b(digest_size=32)
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class Index:
    """An open index; use as a context manager. Writable when ``write`` is given."""

    def __init__(self, path: Path, write: bool = False) -> None:
        self.handle = os.open(path, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC)
        self._close = weakref.finalize(self, os.close, self.handle)
        self.blocks = os.fstat(self.handle).st_size // HASH

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closed at the latest when nobody knows of it any more."""
        self._close()

    def __getitem__(self, number: int) -> bytes:
        return self.slice(number, 1)

    def __setitem__(self, number: int, digest: bytes) -> None:
        self.put(number, digest)

    def slice(self, first: int, count: int) -> bytes:
        return os.pread(self.handle, count * HASH, first * HASH)

    def put(self, first: int, digests: bytes) -> None:
        """The hashes of neighbouring blocks, one after another."""
        if first < 0 or first * HASH + len(digests) > self.blocks * HASH:
            raise IndexError(f"block {first} lies behind the end of the index")
        done = 0
        while done < len(digests):  # a filesystem that is getting full may take less at first
            done += os.pwrite(self.handle, digests[done:], first * HASH + done)

    def stretches(self, first: int = 0, count: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Block number and entries of whatever may be no hole, at most 4096 entries at a time.

        Holes of the file are not read: an index is as sparse as its disk.
        """
        at, end = first, self.blocks if count is None else first + count
        while at < end:
            try:
                begin = os.lseek(self.handle, at * HASH, os.SEEK_DATA)
                until = os.lseek(self.handle, begin, os.SEEK_HOLE)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return
            at = max(at, begin // HASH)
            until = min(-(-until // HASH), end)
            while at < until:
                step = min(_AT_ONCE, until - at)
                entries = os.pread(self.handle, step * HASH, at * HASH)
                if entries != _EMPTY[: len(entries)]:
                    yield at, entries
                at += step

    def fill(self, first: int, count: int, digest: bytes) -> None:
        self.put(first, digest * count)

    def sync(self) -> None:
        os.fsync(self.handle)

    def known(self) -> bool:
        """Whether no entry is UNKNOWN."""
        for _, entries in self.stretches():
            at = entries.find(UNKNOWN)
            while at >= 0:
                if at % HASH == 0:
                    return False
                at = entries.find(UNKNOWN, at + 1)
        return True

    def used(self, first: int = 0, count: int | None = None) -> int:
        """How many blocks (of a stretch) are no holes; an empty stretch costs next to nothing."""
        found = 0
        for _, entries in self.stretches(first, count):
            found += sum(entries[at : at + HASH] != HOLE for at in range(0, len(entries), HASH))
        return found
