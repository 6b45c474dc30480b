"""Tables of device-mapper devices (LVM, LUKS), asked from the kernel itself.

The ioctl and its structures are those of the kernel's ``uapi/linux/dm-ioctl.h``. A table may hold
the key of an encrypted volume: only the fields that are wanted leave the buffer, which is wiped.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import Iterator, List, Mapping, Tuple

from notfallserver.agent import kernel
from notfallserver.agent.disks.base import encoded_device
from notfallserver.agent.disks.layers import Segment

_CONTROL = "/dev/mapper/control"
_TABLE_STATUS = 0xC138FD0C
_HEAD = struct.Struct("=3I2IIi3IQ128s129s7x")
# version (3), size, start of data, targets, opened, flags, event, padding, device, name, uuid
_TARGET = struct.Struct("=2Qi I16s")  # start, length, status, offset of the next one, type
_TABLE, _FULL, _NO_FLUSH, _SECURE = 1 << 4, 1 << 8, 1 << 11, 1 << 15
_ROOM = 64 << 10
_MOST_ROOM = 16 << 20
_SECTOR = 512
_WANTED: Mapping[str, Tuple[int, ...]] = {
    "linear": (0, 1),  # device, first sector
    "crypt": (3, 4),  # device, first sector; before it are cipher, key, and offset of the IV
    "integrity": (3,),  # mode
}
_WANTED_STATUS: Mapping[str, Tuple[int, ...]] = {"raid": (4,)}  # what it is doing by itself


@dataclass(frozen=True)
class Target:
    """One line of a table. Bytes; ``fields`` are those that its kind has in ``_WANTED``, or in
    ``_WANTED_STATUS``."""

    start: int
    length: int
    kind: str
    fields: Tuple[str, ...] = ()


class Mapper:
    """The kernel's device-mapper, kept open so that it can be asked while everything is frozen."""

    def __init__(self) -> None:
        try:
            self._handle = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            self._handle = -1  # this kernel has none, so there is no device to ask for

    def table(self, device: int) -> List[Target]:
        """The table in use of a device; empty if it has none or the kernel doesn't tell."""
        table = self._ask(device, _TABLE, _WANTED)
        if all(one.kind != "raid" for one in table):
            return table
        status = {one.start: one for one in self._ask(device, _NO_FLUSH, _WANTED_STATUS)}
        return [status.get(one.start, one) if one.kind == "raid" else one for one in table]

    def _ask(self, device: int, flags: int, wanted: Mapping[str, Tuple[int, ...]]) -> List[Target]:
        room = _ROOM
        flags |= _SECURE
        while self._handle >= 0 and room <= _MOST_ROOM:
            buffer = bytearray(room)
            head = (4, 0, 0, room, _HEAD.size, 0, 0, flags, 0, 0, encoded_device(device), b"", b"")
            _HEAD.pack_into(buffer, 0, *head)
            try:
                kernel.ioctl(self._handle, _TABLE_STATUS, kernel.address_of(buffer))
                if not _HEAD.unpack_from(buffer)[7] & _FULL:
                    return parse_table(buffer, wanted)
            except (OSError, ValueError):
                return []
            finally:
                kernel.fill_zero(buffer, 0, room)
            room *= 8
        return []

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def parse_table(buffer: bytearray, wanted: Mapping[str, Tuple[int, ...]] = _WANTED) -> List[Target]:
    """What the kernel answered; :class:`ValueError` where it makes no sense.

    ``wanted``: by the kind of a target, which of its words are told.
    """
    head = _HEAD.unpack_from(buffer)
    data, count = head[4], head[5]
    found: List[Target] = []
    at = data
    for _ in range(count):
        if at + _TARGET.size > len(buffer):
            raise ValueError("a target lies outside of the answer")
        start, length, _, following, kind = _TARGET.unpack_from(buffer, at)
        name = kind.rstrip(b"\0").decode("ascii", "replace")
        places = list(_fields(buffer, at + _TARGET.size))
        which = wanted.get(name, ())
        fields: Tuple[str, ...] = ()
        if which and len(places) > max(which):
            fields = tuple(buffer[slice(*places[one])].decode("ascii", "replace") for one in which)
        found.append(Target(start * _SECTOR, length * _SECTOR, name, fields))
        at = data + following
    return found


def _fields(buffer: bytearray, at: int) -> Iterator[Tuple[int, int]]:
    """Begin and end of each word of a text that ends with a zero byte."""
    end = buffer.find(0, at)
    while 0 <= at < end:
        space = buffer.find(b" ", at, end)
        stop = space if space >= 0 else end
        if stop > at:
            yield at, stop
        at = stop + 1


def segments_of(table: List[Target]) -> List[Segment]:
    """Where the parts of a device lie that are passed on byte by byte, encrypted or not."""
    found: List[Segment] = []
    for one in table:
        if one.kind not in ("linear", "crypt") or len(one.fields) != 2:
            continue
        device, first = one.fields
        major, _, minor = device.partition(":")
        if major.isdigit() and minor.isdigit() and first.isdigit():
            below = os.makedev(int(major), int(minor))
            found.append(Segment(one.start, one.length, below, int(first) * _SECTOR))
    return found
