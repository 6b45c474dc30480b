"""Unallocated extents of LVM's physical volumes, told by the metadata that lies on them.

Label, header and metadata area are those of lvm2's format "text" (``format_text/layout.h``): the
label lies in one of the first four sectors, the header names the areas, each area's header the
committed text. Whatever breaks a rule gives None, and then everything counts as used. Pure, except
that it reads through a function.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Callable, Iterator, List, Optional, Tuple

from notfallserver.agent.disks.lvm_text import Section, Value, parse
from notfallserver.agent.disks.runs import Extent, merged
from notfallserver.wire.errors import NotfallError

Read = Callable[[int, int], bytes]
"""Offset and length in bytes from the volume's start."""

_SECTOR = 512
_LABEL = struct.Struct("<8sQII8s")  # magic, sector, checksum, offset of the header, type
_LOCATION = struct.Struct("<2Q")  # offset and size; zeros end a list
_AREA = struct.Struct("<I16sI2Q")  # checksum, magic, version, start, size; then what it holds
_HELD = struct.Struct("<2Q2I")  # offset and size of a text, checksum, flags
_AREA_MAGIC = b" LVM2 x[5A%r0N*>"
_AREA_HEAD = 512
_IGNORED = 1
_FIRST_CHECKSUM = 0xF597A6CF
_TEXT_LIMIT = 16 << 20


@dataclass(frozen=True)
class PhysicalVolume:
    """What the metadata on one volume says of it. ``sequence`` grows with each change."""

    group: str  # the group's id, 32 characters
    sequence: int
    unallocated: Tuple[Extent, ...]


def read_volume(read: Read) -> Optional[PhysicalVolume]:
    """The physical volume that ``read`` reads, or None if it is none or not understood."""
    try:
        name, areas = _header(read)
        for offset, _ in areas:
            text = _committed(read, offset)
            if text:
                return _told(name, parse(text))
    except (struct.error, ValueError, KeyError, StopIteration, NotfallError):
        pass
    return None


def _header(read: Read) -> Tuple[str, List[Tuple[int, int]]]:
    """The volume's id and its metadata areas."""
    head = read(0, 4 * _SECTOR)
    for at in range(0, len(head), _SECTOR):
        magic, sector, checksum, offset, kind = _LABEL.unpack_from(head, at)
        if magic == b"LABELONE" and kind == b"LVM2 001" and sector * _SECTOR == at:
            if _checksum(head[at + 20 : at + _SECTOR]) != checksum:
                raise ValueError("the label is damaged")
            body = head[at + offset : at + _SECTOR]
            places = 32 + 8  # id, size of the device
            for _ in _locations(body, places):  # areas of data
                places += _LOCATION.size
            return body[:32].decode(), list(_locations(body, places + _LOCATION.size))
    raise ValueError("it has no label")


def _locations(body: bytes, at: int) -> Iterator[Tuple[int, int]]:
    while True:
        offset, size = _LOCATION.unpack_from(body, at)
        if not offset:
            return
        yield offset, size
        at += _LOCATION.size


def _committed(read: Read, area: int) -> str:
    """The text in force of the metadata area at this offset; empty if it holds none."""
    head = read(area, _AREA_HEAD)
    checksum, magic, _, start, size = _AREA.unpack_from(head)
    if magic != _AREA_MAGIC or start != area or _checksum(head[4:]) != checksum:
        raise ValueError("the metadata area is damaged")
    offset, length, expected, flags = _HELD.unpack_from(head, _AREA.size)
    if not offset or flags & _IGNORED:
        return ""
    if not _AREA_HEAD <= offset < size or not 0 < length <= min(size - _AREA_HEAD, _TEXT_LIMIT):
        raise ValueError("the metadata lies outside of its area")
    before = min(length, size - offset)
    text = read(area + offset, before)
    if before < length:  # the area is a ring
        text += read(area + _AREA_HEAD, length - before)
    if _checksum(text) != expected:
        raise ValueError("the metadata is damaged")
    return text.rstrip(b"\0").decode()


def _checksum(data: bytes) -> int:
    return zlib.crc32(data, _FIRST_CHECKSUM ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def _told(name: str, text: Section) -> PhysicalVolume:
    group = next(value for value in text.values() if isinstance(value, dict))
    step = _number(group["extent_size"]) * _SECTOR
    volumes = _section(group["physical_volumes"])
    mine, own = next(
        (key, _section(value))
        for key, value in volumes.items()
        if _plain_id(_section(value)["id"]) == name
    )
    count, base = _number(own["pe_count"]), _number(own["pe_start"]) * _SECTOR
    unallocated: List[Extent] = []
    at = 0
    logical = _section(group.get("logical_volumes", {}))
    for start, length in [*merged(_allocated(logical, mine)), (count, 0)]:
        if start > at:
            unallocated.append((base + at * step, (min(start, count) - at) * step))
        at = max(at, start + length)
    return PhysicalVolume(_plain_id(group["id"]), _number(group["seqno"]), tuple(unallocated))


def _allocated(logical: Section, mine: str) -> Iterator[Tuple[int, int]]:
    """First extent and number of all that some segment has on the volume ``mine``.

    Of kinds that share a segment between volumes in another way than stripes, all is taken.
    """
    for one in logical.values():
        for name, value in _section(one).items():
            if not name.startswith("segment") or not isinstance(value, dict):
                continue
            count = _number(value["extent_count"])
            if value["type"] == "striped":
                count = -(-count // max(1, _number(value["stripe_count"])))
            for listed in value.values():
                if isinstance(listed, list):
                    for place, first in zip(listed, listed[1:]):
                        if place == mine and isinstance(first, int):
                            yield first, count


def _section(value: Value) -> Section:
    if not isinstance(value, dict):
        raise ValueError("a section is missing")
    return value


def _number(value: Value) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError("a number is missing")
    return value


def _plain_id(value: Value) -> str:
    return str(value).replace("-", "")
