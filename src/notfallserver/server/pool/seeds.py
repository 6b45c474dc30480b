"""Writing a version as a seed, for another emergency server of the same primary."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from notfallserver.server.pool.index import Index
from notfallserver.server.pool.version import DiskImage, Version
from notfallserver.wire.blocks import BLOCK, HASH, HOLE, Run, block_length, hash_block, runs_of
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.frames import (
    BATCH_BLOCKS,
    HOLE_RUNS,
    Offer,
    best_codec,
    blocks_parts,
    pack,
    write_holes,
)
from notfallserver.wire.seed import SeedWriter


class Watcher(Protocol):
    """Who hears of the progress and may end it by raising."""

    def check(self) -> None: ...

    def progress(self, phase: str, done: int = 0, total: int = 0) -> None: ...


def write_version(version: Version, directory: Path, seed: str, code: str, watcher: Watcher) -> int:
    """Write and seal; returns the bytes written. A block that doesn't fit its hash ends it."""
    manifest = version.manifest
    writer = SeedWriter(directory, code)
    try:
        done = 0
        for disk in manifest.disks:
            done = _write_disk(version, disk, writer, watcher, done)
        seal = {
            "machine": manifest.machine.to_json(),
            "consistency": manifest.consistency,
            "applications": [vars(one) for one in manifest.applications],
            "freeze_ms": manifest.freeze_ms,
            "passes": manifest.passes,
            "bytes_read": manifest.bytes_read,
            "bytes_sent": manifest.bytes_sent,
            "read_all": True,
            "sample": [vars(one) for one in manifest.sample],
        }
        told = {"seed": seed, "primary": manifest.primary, "name": manifest.name}
        writer.seal({**told, "stamp": version.stamp, "source": "server", "seal": seal})
    finally:
        writer.close()
    return writer.written


def _write_disk(
    version: Version, disk: DiskImage, writer: SeedWriter, watcher: Watcher, done: int
) -> int:
    codec = best_codec()
    raw = os.open(version.raw(disk.index), os.O_RDONLY | os.O_CLOEXEC)
    free: list[Run] = []
    behind = 0
    try:
        with Index(version.idx(disk.index)) as index:
            for first, entries in index.stretches():
                used = [
                    first + at // HASH
                    for at in range(0, len(entries), HASH)
                    if entries[at : at + HASH] != HOLE
                ]
                for start in range(0, len(used), BATCH_BLOCKS):
                    watcher.check()
                    numbers = used[start : start + BATCH_BLOCKS]
                    offer: Offer = [(number, index[number]) for number in numbers]
                    content = _read(raw, disk, offer, version)
                    used_codec, packed = pack(codec, content)
                    writer.add(blocks_parts(disk.index, offer, len(content), used_codec, packed))
                    done += len(content)
                    watcher.progress("writing the seed", done, version.bytes_used)
                for begin, count in runs_of(used):
                    if begin > behind:
                        free.append((behind, begin - behind))
                    behind = begin + count
                if len(free) >= HOLE_RUNS // 2:
                    _write_free(writer, disk.index, free)
                    free = []
            if index.blocks > behind:
                free.append((behind, index.blocks - behind))
    finally:
        os.close(raw)
    _write_free(writer, disk.index, free)
    return done


def _write_free(writer: SeedWriter, disk: int, free: Sequence[Run]) -> None:
    for start in range(0, len(free), HOLE_RUNS):
        writer.add([write_holes(disk, free[start : start + HOLE_RUNS])])


def _read(raw: int, disk: DiskImage, offer: Offer, version: Version) -> bytes:
    parts = []
    for number, digest in offer:
        length = block_length(number, disk.size)
        part = os.pread(raw, length, number * BLOCK)
        if len(part) != length or hash_block(part) != digest:
            raise NotfallError(
                "version-damaged",
                f"Block {number} of disk {disk.index} of version {version.stamp} is damaged.",
                "Check the versions (notfall scrub), or export another one.",
                status=409,
            )
        parts.append(part)
    return b"".join(parts)
