"""The first block of a hive, and of each of its transaction logs. Pure.

It says how much data follows and, by two numbers, whether the last write came to its end: they
differ while a write is under way. A log begins with a copy of the block's first sector.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Optional

SIZE = 4096
"""Bytes of the block in a hive; its data follows."""
SECTOR = 512
BIN = 4096
"""Data is made of bins, whose sizes are multiples of this."""
PRIMARY, LOG_OF_2000, LOG_OF_DIRTY_PAGES, LOG_OF_ENTRIES = 0, 2, 1, 6
"""Kinds of file; Windows 2000 wrote 2 where its successors write 1."""

_FIELDS = struct.Struct("<4sIIQIIIIIII")
_FLAGS_AT = 144
_SUM_AT = 508
TRANSACTIONS = 1
"""The flag that travels in the log's entries."""


@dataclass(frozen=True)
class BaseBlock:
    """``first`` and ``second`` are the sequence numbers of a write's begin and end."""

    first: int
    second: int
    written: int
    kind: int
    root: int
    size: int
    """Bytes of data that follow, after the whole block."""
    sector: int

    @property
    def complete(self) -> bool:
        return self.first == self.second


def checksum(block: bytes) -> int:
    """Over the first 508 bytes."""
    total = 0
    for (word,) in struct.iter_unpack("<I", block[:_SUM_AT]):
        total ^= word
    return {0: 1, 0xFFFFFFFF: 0xFFFFFFFE}.get(total, total)


def read_base_block(data: bytes) -> Optional[BaseBlock]:
    """None where the block is torn, damaged, or of something else."""
    if len(data) < SECTOR or data[:4] != b"regf":
        return None
    if struct.unpack_from("<I", data, _SUM_AT)[0] != checksum(data):
        return None
    _, first, second, written, _, _, kind, _, root, size, cluster = _FIELDS.unpack_from(data)
    if size % BIN or not size or cluster not in (1, 2, 4, 8):
        return None
    return BaseBlock(first, second, written, kind, root, size, cluster * SECTOR)


def finished(block: bytes, sequence: int, size: int, flags: Optional[int] = None) -> bytes:
    """``block`` as that of a hive whose last write, number ``sequence``, came to its end."""
    new = bytearray(block)
    struct.pack_into("<II", new, 4, sequence, sequence)
    struct.pack_into("<I", new, 28, PRIMARY)
    struct.pack_into("<I", new, 40, size)
    if flags is not None:
        told = struct.unpack_from("<I", new, _FLAGS_AT)[0]
        told = told & ~TRANSACTIONS | flags & TRANSACTIONS
        struct.pack_into("<I", new, _FLAGS_AT, told)
    struct.pack_into("<I", new, _SUM_AT, checksum(bytes(new)))
    return bytes(new)
