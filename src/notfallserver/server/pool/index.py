"""The block index of one disk as a file: 16 bytes per block, mapped into memory.

Three kinds of entries: a hash, :data:`HOLE`, and :data:`UNKNOWN` (being written). A block's entry
is set to UNKNOWN before its content changes and to the new hash after, so an entry never tells
of content that is not in the image, wherever the process is killed. (After a power cut the order
of pages on the disk is not known; then the whole unfinished version is dropped.)
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from types import TracebackType

from notfallserver.wire.blocks import HASH, HOLE, UNKNOWN, block_count

_AT_ONCE = 4096
_EMPTY = bytes(_AT_ONCE * HASH)
_LET_GO = 512
"""After so many writes the pages are let go of: each may have brought 64 KiB into the process."""


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
        self.handle = os.open(path, os.O_RDWR if write else os.O_RDONLY)
        try:
            self._map = mmap.mmap(
                self.handle, 0, access=mmap.ACCESS_WRITE if write else mmap.ACCESS_READ
            )
        except BaseException:
            os.close(self.handle)
            raise
        self.blocks = len(self._map) // HASH
        self._writes = 0

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
        self._map.close()
        os.close(self.handle)

    def __getitem__(self, number: int) -> bytes:
        return self._map[number * HASH : number * HASH + HASH]

    def __setitem__(self, number: int, digest: bytes) -> None:
        self._map[number * HASH : number * HASH + HASH] = digest

    def slice(self, first: int, count: int) -> bytes:
        return self._map[first * HASH : (first + count) * HASH]

    def put(self, first: int, digests: bytes) -> None:
        """The hashes of neighbouring blocks, one after another."""
        self._map[first * HASH : first * HASH + len(digests)] = digests
        self._writes += 1
        if self._writes % _LET_GO == 0:
            self.let_go()

    def let_go(self) -> None:
        """Unmap the pages that were touched; what was written stays in the page cache.

        So the memory of a process does not grow with the disk: 16 TiB have 4 GiB of index.
        """
        self._map.madvise(mmap.MADV_DONTNEED)

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
        self._map[first * HASH : (first + count) * HASH] = digest * count

    def sync(self) -> None:
        self._map.flush()
        os.fsync(self.handle)

    def known(self) -> bool:
        """Whether no entry is UNKNOWN."""
        self._map.flush()  # so that no filesystem can take a page just written for a hole
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
