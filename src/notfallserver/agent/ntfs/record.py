"""Records of the file table, their attributes and data runs. Pure.

A record is written with fix-ups: the last two bytes of each 512 are replaced by a number that is
the same in all of them, and kept in the record's head. One that differs was torn while written.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Iterator, List, Optional, Tuple

from notfallserver.agent.ntfs.boot import Unreadable

STANDARD_INFORMATION = 0x10
ATTRIBUTE_LIST = 0x20
FILE_NAME = 0x30
DATA = 0x80
INDEX_ROOT = 0x90
INDEX_ALLOCATION = 0xA0
BITMAP = 0xB0
REPARSE_POINT = 0xC0
_END = 0xFFFFFFFF

COMPRESSED, ENCRYPTED, SPARSE = 0x00FF, 0x4000, 0x8000
"""Flags of an attribute."""
_STRIDE = 512
_IN_USE, _DIRECTORY = 1, 2
_NUMBER = (1 << 48) - 1


@dataclass(frozen=True)
class Reference:
    """A record by its number, and how often the number was given."""

    number: int
    sequence: int


def reference(packed: int) -> Reference:
    return Reference(packed & _NUMBER, packed >> 48)


Span = Tuple[int, Optional[int]]
"""Number of clusters and the first of them; None where nothing is stored (sparse)."""


@dataclass(frozen=True)
class Attribute:
    """One attribute, or one piece of it where it is spread over records."""

    kind: int
    name: str
    flags: int
    number: int  # within its record
    value: Optional[bytes]  # None if it is stored outside of the record
    lowest: int = 0  # the first of its clusters that this piece tells of
    spans: Tuple[Span, ...] = ()
    size: int = 0  # of the whole, told in its first piece only
    initialised: int = 0  # behind so many bytes it reads as zero; first piece only


@dataclass(frozen=True)
class Record:
    """One record, fixed up."""

    sequence: int
    links: int
    in_use: bool
    directory: bool
    base: Reference  # number 0: this is no extension of another record
    attributes: Tuple[Attribute, ...]

    def find(self, kind: int, name: str = "") -> List[Attribute]:
        return [one for one in self.attributes if one.kind == kind and one.name == name]


def fixed_up(raw: bytes, magic: bytes) -> bytes:
    """The content of a record or index block as it was before it was written."""
    if raw[:4] != magic or len(raw) < 48:
        raise Unreadable(f"no record {magic.decode()}")
    at, count = struct.unpack_from("<HH", raw, 4)
    if (count - 1) * _STRIDE != len(raw) or at & 1 or at + 2 * count > len(raw):
        raise Unreadable("a record's fix-ups don't fit it")
    stamp = raw[at : at + 2]
    whole = bytearray(raw)
    for number in range(1, count):
        end = number * _STRIDE
        if raw[end - 2 : end] != stamp:
            raise Unreadable("a record is torn")
        whole[end - 2 : end] = raw[at + 2 * number : at + 2 * number + 2]
    return bytes(whole)


def read_record(raw: bytes, clusters: int) -> Record:
    """``raw`` as it is on the disk, of a volume with so many clusters."""
    whole = fixed_up(raw, b"FILE")
    sequence, links, first, flags, used = struct.unpack_from("<HHHHL", whole, 16)
    (base,) = struct.unpack_from("<Q", whole, 32)
    if used > len(whole):
        raise Unreadable("a record is longer than it can be")
    try:
        attributes = tuple(_attributes(whole[:used], first, clusters))
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise Unreadable(f"an attribute is cut off ({error})") from None
    return Record(
        sequence,
        links,
        bool(flags & _IN_USE),
        bool(flags & _DIRECTORY),
        reference(base),
        attributes,
    )


def _attributes(whole: bytes, at: int, clusters: int) -> Iterator[Attribute]:
    while True:
        (kind,) = struct.unpack_from("<L", whole, at)
        if kind == _END:
            return
        length, outside, letters, name_at, flags, number = struct.unpack_from(
            "<LBBHHH", whole, at + 4
        )
        if length < 24 or length & 7 or at + length > len(whole):
            raise Unreadable("an attribute is longer than its record")
        one = whole[at : at + length]
        name = _text(one, name_at, letters)
        if outside:
            yield _stored_outside(one, kind, name, flags, number, clusters)
        else:
            size, value_at = struct.unpack_from("<LH", one, 16)
            if value_at + size > length:
                raise Unreadable("a value is longer than its attribute")
            yield Attribute(kind, name, flags, number, one[value_at : value_at + size], size=size)
        at += length


def _stored_outside(
    one: bytes, kind: int, name: str, flags: int, number: int, clusters: int
) -> Attribute:
    lowest, highest, runs_at = struct.unpack_from("<QQH", one, 16)
    size, initialised = struct.unpack_from("<QQ", one, 48) if not lowest else (0, 0)
    spans = tuple(read_spans(one[runs_at:], clusters))
    # An empty one tells -1 as its highest.
    if (lowest + sum(count for count, _ in spans) - 1) & ((1 << 64) - 1) != highest:
        raise Unreadable("data runs and their number of clusters differ")
    return Attribute(kind, name, flags, number, None, lowest, spans, size, initialised)


def read_spans(runs: bytes, clusters: int) -> Iterator[Span]:
    """Decode data runs: each tells its length, and its distance from the one before."""
    at = place = 0
    while at < len(runs) and runs[at]:
        head = runs[at]
        width, far = head & 15, head >> 4
        if not 0 < width <= 8 or far > 8 or at + 1 + width + far > len(runs):
            raise Unreadable("a data run is broken")
        count = int.from_bytes(runs[at + 1 : at + 1 + width], "little")
        step = int.from_bytes(runs[at + 1 + width : at + 1 + width + far], "little", signed=True)
        at += 1 + width + far
        if not far:
            # Sparse files may be far longer than the volume, but not beyond any measure.
            if not 0 < count < 1 << 60:
                raise Unreadable("a data run is broken")
            yield count, None
            continue
        place += step
        if count <= 0 or place < 0 or place + count > clusters:
            raise Unreadable("a data run lies outside of the volume")
        yield count, place


@dataclass(frozen=True)
class Listed:
    """An entry of an attribute list: where a piece of an attribute is."""

    kind: int
    name: str
    lowest: int
    record: Reference
    number: int


def read_list(value: bytes) -> Iterator[Listed]:
    """The value of an attribute list."""
    at = 0
    while at < len(value):
        if at + 26 > len(value):
            raise Unreadable("an attribute list is cut off")
        kind, length, letters, name_at, lowest, record, number = struct.unpack_from(
            "<LHBBQQH", value, at
        )
        if length < 26 or at + length > len(value):
            raise Unreadable("an attribute list is broken")
        name = _text(value[at : at + length], name_at, letters)
        yield Listed(kind, name, lowest, reference(record), number)
        at += length


def _text(where: bytes, at: int, letters: int) -> str:
    if at + 2 * letters > len(where):
        raise Unreadable("a name is cut off")
    return where[at : at + 2 * letters].decode("utf-16-le", "replace")
