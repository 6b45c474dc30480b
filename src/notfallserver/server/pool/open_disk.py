"""One disk of an unfinished version: its image and block index, begun and open for writing.

Write order: a block's index entry becomes UNKNOWN, the content is written, the entry becomes the
hash.
"""

from __future__ import annotations

import os
from pathlib import Path

from notfallserver.server.host.clone import clone_file, punch_hole
from notfallserver.server.host.direct import DirectFile
from notfallserver.server.pool import layout
from notfallserver.server.pool.index import Index, fit_index, make_index
from notfallserver.server.pool.version import Version
from notfallserver.wire.blocks import BLOCK, HOLE, UNKNOWN, Buffer
from notfallserver.wire.frames import Offer, bad_frame


class OpenDisk:
    """One disk's image and index, open for writing."""

    def __init__(self, directory: Path, index: int, size: int) -> None:
        self.index = index
        self.size = size
        self.raw = os.open(directory / layout.raw_name(index), os.O_RDWR)
        self.direct = DirectFile(directory / layout.raw_name(index))
        self.idx = Index(directory / layout.idx_name(index), write=True)

    def close(self) -> None:
        self.idx.close()
        self.direct.close()
        os.close(self.raw)

    def check(self, number: int) -> int:
        if number >= self.idx.blocks:
            raise bad_frame(f"block {number} lies behind the end of disk {self.index}")
        return number

    def punch(self, first: int, count: int) -> None:
        length = min(count * BLOCK, self.size - first * BLOCK)
        self.idx.fill(first, count, UNKNOWN)
        punch_hole(self.raw, first * BLOCK, length)
        self.idx.fill(first, count, HOLE)

    def store(self, entries: Offer, payload: Buffer) -> None:
        """Write contents; neighbouring blocks go to the disk in one call."""
        view = memoryview(payload)
        at = done = 0
        while done < len(entries):
            first = entries[done][0]
            count = 1
            while done + count < len(entries) and entries[done + count][0] == first + count:
                count += 1
            length = min(count * BLOCK, self.size - first * BLOCK)
            self.idx.fill(first, count, UNKNOWN)
            written = self.direct.write(view[at : at + length], first * BLOCK)
            while written < length:
                part = view[at + written : at + length]
                written += os.pwrite(self.raw, part, first * BLOCK + written)
            self.idx.put(first, b"".join(digest for _, digest in entries[done : done + count]))
            at += length
            done += count


def start_disk(
    directory: Path, index: int, size: int, base: Version | None, source: int | None
) -> None:
    """A clone of disk ``source`` of the base, or an empty one; a grown disk goes on with holes."""
    raw, idx = directory / layout.raw_name(index), directory / layout.idx_name(index)
    known = {one.index: one for one in base.manifest.disks} if base else {}
    if base is None or source is None or source not in known:
        with raw.open("xb") as stream:
            stream.truncate(size)
        make_index(idx, size)
        return
    clone_file(base.raw(source), raw)
    clone_file(base.idx(source), idx)
    if known[source].size != size:
        os.truncate(raw, size)
        fit_index(idx, size)
        with Index(idx, write=True) as opened:
            edge = min(known[source].size, size) // BLOCK
            if edge < opened.blocks:  # the old last block may have been short
                opened[edge] = UNKNOWN
