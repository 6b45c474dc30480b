"""The block index of one disk as a file: 16 bytes per block, mapped into memory.

Three kinds of entries: a hash, :data:`HOLE`, and :data:`UNKNOWN` (being written). A block's entry
is set to UNKNOWN before its content changes and to the new hash after, so an entry never tells
of content that is not in the image, wherever the process is killed. (After a power cut the order
of pages on the disk is not known; then the whole unfinished version is dropped.)
"""

from __future__ import annotations

import mmap
import os
from hashlib import blake2b
from pathlib import Path
from types import TracebackType

from notfallserver.wire.blocks import HASH, HOLE, UNKNOWN, block_count


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

    def fill(self, first: int, count: int, digest: bytes) -> None:
        self._map[first * HASH : (first + count) * HASH] = digest * count

    def sync(self) -> None:
        self._map.flush()
        os.fsync(self.handle)

    def known(self) -> bool:
        """Whether no entry is UNKNOWN."""
        at = self._map.find(UNKNOWN)
        while at >= 0:
            if at % HASH == 0:
                return False
            at = self._map.find(UNKNOWN, at + 1)
        return True

    def used(self, first: int = 0, count: int | None = None) -> int:
        """How many blocks (of a stretch) are no holes; an empty stretch costs next to nothing."""
        end = self.blocks if count is None else first + count
        found = 0
        for start in range(first, end, 4096):
            stretch = self.slice(start, min(4096, end - start))
            if any(stretch):
                found += sum(stretch[at : at + HASH] != HOLE for at in range(0, len(stretch), HASH))
        return found
