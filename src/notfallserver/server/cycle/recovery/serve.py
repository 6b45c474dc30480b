"""Giving a version's blocks to a target: the replication protocol the other way round."""

from __future__ import annotations

from notfallserver.server.pool.index import Index
from notfallserver.server.pool.version import Version
from notfallserver.wire.blocks import BLOCK, HOLE, block_length
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.frames import BATCH_BLOCKS, ZSTD, bad_frame, read_want, write_blocks


def raw_index(version: Version, disk: int) -> bytes:
    """The whole block index of one disk of a version."""
    _check_disk(version, disk)
    return version.idx(disk).read_bytes()


def wanted_blocks(version: Version, frame: bytes) -> bytes:
    """Answer a want with the contents of the blocks, none of which may be a hole."""
    disk, numbers = read_want(frame)
    _check_disk(version, disk)
    if len(numbers) > BATCH_BLOCKS:
        raise bad_frame(f"at most {BATCH_BLOCKS} blocks can be wanted at once")
    size = version.manifest.disks[disk].size
    entries, parts = [], []
    with Index(version.idx(disk)) as index, version.raw(disk).open("rb") as raw:
        for number in numbers:
            if number >= index.blocks:
                raise bad_frame(f"block {number} lies behind the end of disk {disk}")
            digest = index[number]
            if digest == HOLE:
                raise bad_frame(f"block {number} is a hole and has no content")
            raw.seek(number * BLOCK)
            parts.append(raw.read(block_length(number, size)))
            entries.append((number, digest))
    return write_blocks(disk, entries, b"".join(parts), ZSTD)


def _check_disk(version: Version, disk: int) -> None:
    if not 0 <= disk < len(version.manifest.disks):
        raise NotfallError("unknown-disk", f"The version has no disk {disk}.", status=404)
