"""Taking over blocks that the pool holds elsewhere into an unfinished version.

Where the pool can, both images share the block's place on the device, so it costs no space. The
write order is that of every block: UNKNOWN, content, hash. The hash is written only after the
content was read back from where it now lies: what doesn't fit stays UNKNOWN and is asked for.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from notfallserver.server.host.clone import copy_range
from notfallserver.server.pool.index import Index
from notfallserver.wire.blocks import BLOCK, UNKNOWN, hash_block

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adoption:
    """Block ``number`` shall hold what block ``place`` of ``source`` holds; whole blocks only."""

    number: int
    digest: bytes
    source: Path
    place: int


def adopt_blocks(raw: int, index: Index, wanted: Sequence[Adoption]) -> set[int]:
    """Returns the numbers of those that are there now; ``raw`` is open for reading and writing."""
    there: set[int] = set()
    for group in _neighbours(wanted):
        try:
            source = os.open(group[0].source, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # the version was removed
        try:
            there |= _adopt(raw, index, source, group)
        finally:
            os.close(source)
    return there


def _neighbours(wanted: Sequence[Adoption]) -> Iterator[list[Adoption]]:
    """Those that follow each other here and there, so that one call takes them."""
    group: list[Adoption] = []
    for one in wanted:
        last = group[-1] if group else None
        if last is not None and (one.number, one.place, one.source) != (
            last.number + 1,
            last.place + 1,
            last.source,
        ):
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _adopt(raw: int, index: Index, source: int, group: Sequence[Adoption]) -> set[int]:
    first, count = group[0].number, len(group)
    index.fill(first, count, UNKNOWN)
    copy_range(source, group[0].place * BLOCK, raw, first * BLOCK, count * BLOCK)
    there = set()
    for one in group:
        try:
            content = os.pread(raw, BLOCK, one.number * BLOCK)
        except OSError:  # shared with a bad place of the device
            content = b""
        if len(content) == BLOCK and hash_block(content) == one.digest:
            index.put(one.number, one.digest)
            there.add(one.number)
        else:
            log.error("block %d of %s does not fit its hash", one.place, one.source)
    return there
