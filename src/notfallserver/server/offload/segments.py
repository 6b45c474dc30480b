"""How a version is laid out for the engine: its used blocks as dense files, one for each stretch.

::

    offload.json  manifest.json  assemble.py
    disk0/00000/index      the block index of the first 64 GiB of the disk
    disk0/00000/0007       the used blocks of the eighth 64 MiB in there, in order

What has no used block does not exist, so holes cost nothing. The engine takes a file for unchanged,
and doesn't read it, when size and mtime are as before: so the mtime of a segment is made of the
hash of its stretch of the index. Equal content has the equal mtime, wherever and whenever it is
staged; other content has another one (60 bits tell them apart).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from notfallserver.server.host.clone import copy_range
from notfallserver.server.host.files import read_json
from notfallserver.server.pool import layout
from notfallserver.server.pool.index import Index
from notfallserver.server.pool.version import DiskImage, Manifest, Version
from notfallserver.wire.blocks import BLOCK, HASH, HOLE, Run, block_length, runs_of
from notfallserver.wire.errors import NotfallError

FORMAT = 1
STRETCH = 1024
"""Blocks in a segment: 64 MiB of a disk."""
GROUP = 1024
"""Stretches in a folder: 64 GiB of a disk. A folder is written anew as a whole when one changes."""
DESCRIPTION = "offload.json"
ASSEMBLE = "assemble.py"
INDEX = "index"


@dataclass(frozen=True)
class Stretch:
    """``entries`` are its part of the index; ``number`` counts in the disk."""

    disk: int
    number: int
    entries: bytes

    @property
    def first(self) -> int:
        """Its first block."""
        return self.number * STRETCH

    @property
    def path(self) -> str:
        """Where its segment lies in an off-loaded version."""
        return f"{group_path(self.disk, self.number // GROUP)}/{self.number % GROUP:04d}"

    def runs(self) -> list[Run]:
        """Used blocks as runs of (first, count), counted in the disk."""
        entries = self.entries
        used = (at for at in range(0, len(entries), HASH) if entries[at : at + HASH] != HOLE)
        return runs_of(self.first + at // HASH for at in used)

    def length(self, size: int) -> int:
        """Bytes of its segment, on a disk of ``size`` bytes."""
        runs = self.runs()
        if not runs:
            return 0
        last = runs[-1][0] + runs[-1][1] - 1
        return sum(count for _, count in runs) * BLOCK - BLOCK + block_length(last, size)


def group_path(disk: int, group: int) -> str:
    return f"disk{disk}/{group:05d}"


def stretches_of(index: Index, disk: int) -> Iterator[Stretch]:
    """Those with used blocks, in order."""
    for group, entries in groups_of(index):
        for at in range(0, len(entries), STRETCH * HASH):
            part = entries[at : at + STRETCH * HASH]
            if part.strip(b"\0"):
                yield Stretch(disk, group * GROUP + at // (STRETCH * HASH), part)


def groups_of(index: Index) -> Iterator[tuple[int, bytes]]:
    """Number and entries of each stretch of 64 GiB with used blocks."""
    step = STRETCH * GROUP
    for first in range(0, index.blocks, step):
        count = min(step, index.blocks - first)
        if any(True for _ in index.stretches(first, count)):
            yield first // step, index.slice(first, count)


def told_time(content: bytes) -> int:
    """A time in nanoseconds since 1970 that stands for this content."""
    digest = blake2b(content, digest_size=12, person=b"notfall-offload").digest()
    seconds = int.from_bytes(digest[:6], "big") % (1 << 31)  # what each filesystem can hold
    return seconds * 10**9 + int.from_bytes(digest[6:], "big") % 10**9


def describe(manifest: Manifest) -> dict[str, Any]:
    """What is needed to put it together, without any software of ours."""
    return {
        "format": FORMAT,
        "primary": manifest.primary,
        "name": manifest.name,
        "stamp": manifest.stamp,
        "block": BLOCK,
        "stretch_blocks": STRETCH,
        "group_stretches": GROUP,
        "hash": "first 16 bytes of SHA-256 of a block; 16 zero bytes: hole",
        "disks": [{"index": one.index, "size": one.size} for one in manifest.disks],
    }


def read_description(folder: Path) -> dict[str, Any]:
    """Of what was brought back; a format that isn't known is refused."""
    told = read_json(folder / DESCRIPTION)
    if told.get("format") != FORMAT or told.get("block") != BLOCK:
        raise NotfallError(
            "unknown-format",
            "This was off-loaded by a newer server.",
            "Update this server.",
        )
    return told


def stage_version(version: Version, folder: Path) -> int:
    """Lay a version out in ``folder``, which is made; returns the bytes of its segments.

    Nothing is copied where the filesystem can share blocks.
    """
    folder.mkdir(parents=True)
    total = 0
    for disk in version.manifest.disks:
        total += _stage_disk(version, disk, folder)
    _put(folder / layout.MANIFEST, (version.path / layout.MANIFEST).read_bytes())
    told = json.dumps(describe(version.manifest), indent=1, sort_keys=True).encode() + b"\n"
    _put(folder / DESCRIPTION, told)
    _put(folder / ASSEMBLE, Path(__file__).with_name(ASSEMBLE).read_bytes())
    for one, directories, _ in os.walk(folder, topdown=False):
        for name in directories:
            os.utime(Path(one, name), ns=(0, 0))
    os.utime(folder, ns=(0, 0))
    return total


def _stage_disk(version: Version, disk: DiskImage, folder: Path) -> int:
    total = 0
    with Index(version.idx(disk.index)) as index, version.raw(disk.index).open("rb") as raw:
        for group, entries in groups_of(index):
            place = folder / group_path(disk.index, group)
            place.mkdir(parents=True)
            _put(place / INDEX, entries)
        for stretch in stretches_of(index, disk.index):
            total += _put_segment(folder / stretch.path, stretch, raw.fileno(), disk.size)
    return total


def _put_segment(path: Path, stretch: Stretch, raw: int, size: int) -> int:
    done = 0
    with path.open("xb") as segment:
        for first, count in stretch.runs():
            length = min(count * BLOCK, size - first * BLOCK)
            copy_range(raw, first * BLOCK, segment.fileno(), done, length)
            done += length
    moment = told_time(stretch.entries)
    os.utime(path, ns=(moment, moment))
    return done


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    moment = told_time(content)
    os.utime(path, ns=(moment, moment))
