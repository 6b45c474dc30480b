"""A hive's transaction log as Windows writes it since 8.1 and Server 2012 R2. Pure.

Behind the base block's sector follow entries, each a list of pages for the hive and numbered; a new
round begins at the start of the file again, so older entries remain behind the newest. An entry
counts when its two checksums are right.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import List, Optional, Tuple

from notfallserver.guest.windows.base_block import BIN, SECTOR, BaseBlock
from notfallserver.guest.windows.marvin import marvin32

Page = Tuple[int, bytes]
"""Where it lies in the hive's data, and what it holds."""

_HEAD = struct.Struct("<4sIIIIIQQ")
_SIGNATURE = b"HvLE"


@dataclass(frozen=True)
class Entry:
    """``size``: of the hive's data from this entry on."""

    sequence: int
    size: int
    flags: int
    pages: Tuple[Page, ...]


@dataclass(frozen=True)
class EntryLog:
    """``entries`` follow each other without a gap. ``beyond`` is the number of the newest sound
    entry after them, although the next one is unreadable: damage, not a torn write."""

    block: BaseBlock
    entries: Tuple[Entry, ...]
    beyond: int = 0

    @property
    def first(self) -> int:
        return self.entries[0].sequence if self.entries else self.block.first

    @property
    def last(self) -> int:
        return self.entries[-1].sequence if self.entries else self.block.first - 1


def read_entry_log(data: bytes, block: BaseBlock) -> EntryLog:
    """``block`` is the log's own, read from its first sector."""
    entries: List[Entry] = []
    at, expected = SECTOR, block.first
    while True:
        if _sequence(data, at) != expected:
            break
        entry, length = _read_entry(data, at)
        if entry is None:
            break
        entries.append(entry)
        at, expected = at + length, expected + 1
    return EntryLog(block, tuple(entries), _beyond(data, at, expected))


def _sequence(data: bytes, at: int) -> int:
    """-1 where there is no entry."""
    if data[at : at + 4] != _SIGNATURE or at + _HEAD.size > len(data):
        return -1
    return int.from_bytes(data[at + 12 : at + 16], "little")


def _beyond(data: bytes, at: int, expected: int) -> int:
    """The newest sound entry behind ``at``, where number ``expected`` is missing; 0: none."""
    newest = 0
    for place in range(at, len(data) - _HEAD.size, SECTOR):
        sequence = _sequence(data, place)
        if sequence >= max(expected, newest + 1) and _read_entry(data, place)[0] is not None:
            newest = sequence
    return newest


def _read_entry(data: bytes, at: int) -> Tuple[Optional[Entry], int]:
    """The entry with its length; None where it is torn or damaged."""
    _, length, flags, sequence, size, count, body_sum, head_sum = _HEAD.unpack_from(data, at)
    listed = _HEAD.size + 8 * count
    if length % SECTOR or listed > length or at + length > len(data) or size % BIN or not size:
        return None, 0
    whole = data[at : at + length]
    if marvin32(whole[:32]) != head_sum or marvin32(whole[_HEAD.size :]) != body_sum:
        return None, 0
    pages: List[Page] = []
    here = listed
    for number in range(count):
        place, extent = struct.unpack_from("<II", whole, _HEAD.size + 8 * number)
        if place + extent > size or here + extent > length:
            return None, 0
        pages.append((place, whole[here : here + extent]))
        here += extent
    return Entry(sequence, size, flags, tuple(pages)), length
