"""Where a disk's contents lie, by hash: a table of hints beside a version, which may be lost.

A hash table in a file: 4 bytes per slot, a slot and a half per used block; a slot holds a block's
number plus one. It holds no hashes: what a hint is worth, the version's block index tells. So a
table that is out of date, torn by a power cut, or of another version only finds less. Cost: 6 bytes
per used block of 64 KiB (100 MB per TB), some seconds of one processor per million blocks to
build, memory only for the pages in use.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from notfallserver.server.pool.index import Index
from notfallserver.wire.blocks import HASH

_HEAD = struct.Struct("=8sQ")  # magic, slots
_MAGIC = b"NFHINTS1"
_KEY = struct.Struct("=Q")
_SLOT = struct.Struct("=I")
_TRIES = 32
"""So many slots are looked at; a block that finds none free is left out."""
_LET_GO = 64
"""Stretches of 4096 blocks after which the pages in use are let go of."""


def build_hints(index: Index, path: Path) -> None:
    """Write the table of a version's disk; complete under its name or not there at all."""
    slots = index.used() * 3 // 2 + 1
    new = path.with_name(path.name + ".new")
    handle = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        # All of it now: on a full filesystem the first write to a page of a map ends the process.
        os.posix_fallocate(handle, 0, _HEAD.size + 4 * slots)
        with mmap.mmap(handle, 0) as mapped:
            _HEAD.pack_into(mapped, 0, _MAGIC, slots)
            with memoryview(mapped) as whole, whole[_HEAD.size :].cast("I") as table:
                _fill(index, table, slots, mapped)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)
    new.replace(path)


def _fill(index: Index, table: memoryview, slots: int, mapped: mmap.mmap) -> None:
    for turn, (first, entries) in enumerate(index.stretches()):
        words = memoryview(entries).cast("Q")
        for place in range(0, len(words), 2):
            key = words[place]
            if not key and not words[place + 1]:
                continue  # a hole
            slot = key % slots
            for _ in range(_TRIES):
                known = table[slot]
                if not known:
                    table[slot] = first + place // 2 + 1
                    break
                if index[known - 1] == entries[place * 8 : place * 8 + HASH]:
                    break  # the same content once more
                slot = (slot + 1) % slots
        if turn % _LET_GO == _LET_GO - 1:
            mapped.madvise(mmap.MADV_DONTNEED)


class Hints:
    """An open table of the disk that ``index`` belongs to. Thread-safe; its owner closes it by
    forgetting it."""

    def __init__(self, path: Path, index: Index) -> None:
        """:class:`OSError` or :class:`ValueError` when there is none that can be used."""
        self._index = index
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(handle, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(handle)
        if len(self._map) < _HEAD.size:
            raise ValueError("too short")
        magic, self._slots = _HEAD.unpack_from(self._map)
        if magic != _MAGIC or not self._slots or len(self._map) != _HEAD.size + 4 * self._slots:
            raise ValueError("no table of hints")

    def find(self, digest: bytes) -> int:
        """The number of a block with this hash, or -1."""
        slot = _KEY.unpack_from(digest)[0] % self._slots
        for _ in range(_TRIES):
            number = int(_SLOT.unpack_from(self._map, _HEAD.size + 4 * slot)[0]) - 1
            if number < 0:
                return -1
            if number < self._index.blocks and self._index[number] == digest:
                return number
            slot = (slot + 1) % self._slots
        return -1
