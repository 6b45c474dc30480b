"""Which blocks of two versions differ, told by their indices, and a random sample of them.

All differing blocks are counted; of each kind at most so many are picked, each with the same
chance (reservoir sampling), so memory does not grow with the disks. Where both indices are equal
a stretch costs one comparison.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType

from notfallserver.server.pool.index import Index
from notfallserver.server.pool.version import Version
from notfallserver.wire.blocks import BLOCK, HASH, HOLE

_AT_ONCE = 4096


class Change(StrEnum):
    """What became of a block."""

    REWRITTEN = "rewritten"  # content before and after
    FRESH = "fresh"  # a hole before
    EMPTIED = "emptied"  # a hole now


Place = tuple[int, int]
"""Disk and number of a block."""


@dataclass
class Changed:
    """How many blocks changed how, and some of them, in random order; ``used`` of the older."""

    used: int = 0
    counts: dict[Change, int] = field(default_factory=lambda: dict.fromkeys(Change, 0))
    picked: dict[Change, list[Place]] = field(default_factory=lambda: {one: [] for one in Change})


def changed_blocks(
    before: Version, after: Version, most: int, seed: str, check: Callable[[], None]
) -> Changed:
    """``most`` are picked of each kind; the same ``seed`` picks the same. ``check`` may raise."""
    found = Changed(used=sum(one.used for one in before.manifest.disks))
    luck = random.Random(seed)
    older = {one.index for one in before.manifest.disks}
    for disk in after.manifest.disks:
        if disk.index not in older:
            continue
        with Index(before.idx(disk.index)) as old, Index(after.idx(disk.index)) as new:
            blocks = min(old.blocks, new.blocks)
            for at in range(0, blocks, _AT_ONCE):
                check()
                count = min(_AT_ONCE, blocks - at)
                first, second = old.slice(at, count), new.slice(at, count)
                if first != second:
                    _compare(found, luck, most, (disk.index, at), first, second)
    for picked in found.picked.values():
        luck.shuffle(picked)
    return found


def _compare(
    found: Changed, luck: random.Random, most: int, begin: Place, first: bytes, second: bytes
) -> None:
    for at in range(0, len(first), HASH):
        old, new = first[at : at + HASH], second[at : at + HASH]
        if old == new:
            continue
        kind = Change.FRESH if old == HOLE else Change.EMPTIED if new == HOLE else Change.REWRITTEN
        found.counts[kind] += 1
        picked, place = found.picked[kind], (begin[0], begin[1] + at // HASH)
        if len(picked) < most:
            picked.append(place)
        elif (instead := int(luck.random() * found.counts[kind])) < most:
            picked[instead] = place


class Blocks:
    """Blocks of a version, read one by one; what was read is not kept in memory. Use as a context
    manager."""

    def __init__(self, version: Version) -> None:
        self._version = version
        self._open: dict[int, int] = {}

    def __enter__(self) -> Blocks:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for handle in self._open.values():
            os.close(handle)

    def read(self, place: Place) -> bytes:
        disk, number = place
        if disk not in self._open:
            path: Path = self._version.raw(disk)
            self._open[disk] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            os.posix_fadvise(self._open[disk], 0, 0, os.POSIX_FADV_RANDOM)
        handle = self._open[disk]
        content = os.pread(handle, BLOCK, number * BLOCK)
        os.posix_fadvise(handle, number * BLOCK, BLOCK, os.POSIX_FADV_DONTNEED)
        return content
