"""An image that lies in the pool already becomes one disk of a version."""

from __future__ import annotations

from pathlib import Path

from notfallserver.server.host.clone import written_stretches
from notfallserver.server.pool.index import Index, hash_index, make_index
from notfallserver.server.pool.version import DiskImage
from notfallserver.wire.blocks import BLOCK, hash_block


def index_image(number: int, raw: Path) -> DiskImage:
    """Write the index of disk ``number`` beside its image."""
    size, idx = raw.stat().st_size, raw.with_suffix(".idx")
    make_index(idx, size)
    with Index(idx, write=True) as index, raw.open("rb") as stream:
        for start, end in written_stretches(stream.fileno()):
            for at in range(start // BLOCK, -(-end // BLOCK)):
                stream.seek(at * BLOCK)
                index[at] = hash_block(stream.read(BLOCK))
        return DiskImage(number, size, index.used(), hash_index(idx))
