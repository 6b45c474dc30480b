"""An NTFS volume: its records, and what is stored in their attributes.

Only for reading, through a given function, at one point in time: a snapshot, or a volume that
nobody writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Iterator, List, Optional, Tuple

from notfallserver.agent.ntfs.boot import BOOT_SECTOR, Read, Unreadable, read_shape
from notfallserver.agent.ntfs.record import (
    ATTRIBUTE_LIST,
    COMPRESSED,
    DATA,
    Attribute,
    Listed,
    Record,
    Reference,
    Span,
    read_list,
    read_record,
)

_TABLE = 0
"""The file table's own record."""
_MOST_LIST = 16 << 20
"""No attribute list is so long; Windows allows 256 KiB."""
_PIECE = 1 << 20

Extent = Tuple[int, int]
"""Start and length in bytes from the volume's start."""


@dataclass(frozen=True)
class Stored:
    """Everything of one attribute. Sizes are in bytes."""

    flags: int
    size: int
    initialised: int  # behind so many it reads as zero
    value: Optional[bytes]  # if it lies in its record
    spans: Tuple[Span, ...]  # if it lies outside: where, in order


class Volume:
    """``size`` is that of the partition; raises :class:`Unreadable` for what is no NTFS."""

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self.shape = read_shape(read(0, BOOT_SECTOR), size)
        self._table = self._find_table()

    # -- records ---------------------------------------------------------------------------------

    def _find_table(self) -> Stored:
        """The file table's own place. Its first record tells the first piece; a further piece is
        told by a record that lies in what is known by then."""
        shape = self.shape
        raw = self._read(shape.table * shape.cluster, shape.record)
        base = read_record(raw, shape.clusters)
        pieces = [one for one in base.find(DATA) if one.lowest == 0]
        if len(pieces) != 1 or not base.in_use or pieces[0].value is not None:
            raise Unreadable("the file table has no place")
        known = Stored(0, pieces[0].size, pieces[0].initialised, None, pieces[0].spans)
        for one in sorted(self._listed(base), key=lambda entry: entry.lowest):
            if one.kind == DATA and not one.name and one.lowest:
                own = Reference(_TABLE, base.sequence)
                record = _extension(
                    read_record(self._raw(known, one.record), shape.clusters), one, own
                )
                pieces.append(_piece(record, one))
                known = Stored(0, known.size, known.initialised, None, _all_spans(pieces))
        return self._joined(pieces)

    def _raw(self, table: Stored, at: Reference) -> bytes:
        raw = self.read(table, at.number * self.shape.record, self.shape.record)
        if len(raw) != self.shape.record:
            raise Unreadable(f"record {at.number} does not exist")
        return raw

    @property
    def records(self) -> int:
        """How many there are, in use or not."""
        return self._table.size // self.shape.record

    def record(self, number: int) -> Record:
        """One that is in use."""
        found = read_record(self._raw(self._table, Reference(number, 0)), self.shape.clusters)
        if not found.in_use:
            raise Unreadable(f"record {number} is not in use")
        return found

    # -- attributes ------------------------------------------------------------------------------

    def stored(self, number: int, kind: int, name: str = "") -> Optional[Stored]:
        """An attribute of a record, with all its pieces; None if it has none of this name."""
        base = self.record(number)
        pieces = base.find(kind, name)
        own = Reference(number, base.sequence)
        for one in self._listed(base):
            if one.kind == kind and one.name == name and one.record.number != number:
                pieces.append(_piece(_extension(self.record(one.record.number), one, own), one))
        return self._joined(pieces) if pieces else None

    def _listed(self, base: Record) -> List[Listed]:
        """Where pieces of its attributes are; empty if all are in the record itself."""
        lists = base.find(ATTRIBUTE_LIST)
        if not lists:
            return []
        stored = self._joined(lists)
        if stored.size > _MOST_LIST:
            raise Unreadable("an attribute list is too long")
        return list(read_list(self.read(stored, 0, stored.size)))

    def _joined(self, pieces: List[Attribute]) -> Stored:
        """One attribute of its pieces, without a gap."""
        pieces = sorted(pieces, key=lambda one: one.lowest)
        first = pieces[0]
        if first.value is not None:
            if len(pieces) != 1:
                raise Unreadable("an attribute is there twice")
            return Stored(first.flags, first.size, first.size, first.value, ())
        at = 0
        for one in pieces:
            if one.lowest != at or one.value is not None:
                raise Unreadable("a piece of an attribute is missing")
            at += sum(count for count, _ in one.spans)
        if first.size > at * self.shape.cluster or first.initialised > first.size:
            raise Unreadable("an attribute is longer than its clusters")
        return Stored(first.flags, first.size, first.initialised, None, _all_spans(pieces))

    # -- content ---------------------------------------------------------------------------------

    def read(self, stored: Stored, at: int, length: int) -> bytes:
        """Its bytes from ``at``; fewer where it ends."""
        length = max(0, min(length, stored.size - at))
        if stored.value is not None:
            return stored.value[at : at + length]
        if stored.flags & COMPRESSED:
            raise Unreadable("it is compressed")
        found = bytearray()
        begin = 0
        for count, first in stored.spans:
            end = begin + count * self.shape.cluster
            here, until = max(at, begin), min(at + length, end)
            if here < until:
                lies = None if first is None else first * self.shape.cluster + here - begin
                found += bytes(until - here) if lies is None else self._exactly(lies, until - here)
            begin = end
        known = max(0, stored.initialised - at)
        return bytes(found[:known]) + bytes(max(0, len(found) - known))

    def _exactly(self, at: int, length: int) -> bytes:
        read = self._read(at, length)
        if len(read) != length:
            raise Unreadable("it ends too early")
        return read

    def pieces(self, stored: Stored) -> Iterator[bytes]:
        """All its bytes, so many at a time that memory is bounded."""
        for at in range(0, stored.size, _PIECE):
            yield self.read(stored, at, _PIECE)

    def extents(self, stored: Stored) -> List[Extent]:
        """Where it lies outside of its record; what is sparse lies nowhere."""
        cluster = self.shape.cluster
        return [
            (first * cluster, count * cluster) for count, first in stored.spans if first is not None
        ]


def _all_spans(pieces: Iterable[Attribute]) -> Tuple[Span, ...]:
    return tuple(span for one in pieces for span in one.spans)


def _extension(found: Record, listed: Listed, base: Reference) -> Record:
    """The record that an entry names, if it really belongs to ``base``."""
    if not found.in_use or found.sequence != listed.record.sequence or found.base != base:
        raise Unreadable(f"record {listed.record.number} does not belong to record {base.number}")
    return found


def _piece(record: Record, listed: Listed) -> Attribute:
    for one in record.find(listed.kind, listed.name):
        if one.number == listed.number and one.lowest == listed.lowest:
            return one
    raise Unreadable(f"a piece that record {listed.record.number} ought to have is missing")
