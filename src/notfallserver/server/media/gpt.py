"""The GUID partition table on a larger disk: its second copy belongs to the end. Pure.

After UEFI 2.10, chapter 5.3. All numbers are little-endian, addresses count sectors.
"""

from __future__ import annotations

import struct
from binascii import crc32

_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_MAGIC = b"EFI PART"
_PROTECTIVE = 0xEE


def move_backup(head: bytes, size: int, sector: int) -> tuple[bytes, int, bytes]:
    """The disk's beginning for a disk of ``size`` bytes; where its second table comes to, and what
    it is. Nothing is changed (and the second is empty) where ``head`` has no sound GPT."""
    told = _read(head, sector)
    if told is None:
        return head, size, b""
    table, count, each = told[10], told[11], told[12]
    entries = head[table * sector : table * sector + count * each]
    room = -(-len(entries) // sector)
    last = size // sector - 1
    if table * sector + len(entries) > len(head) or last <= told[6] + room:
        return head, size, b""
    usable = last - room - 1
    first = _header(told, mine=1, other=last, usable=usable, table=table)
    second = _header(told, mine=last, other=1, usable=usable, table=last - room)
    made = bytearray(head)
    made[sector : sector + len(first)] = first
    _cover(made, last)
    backup = entries + bytes(room * sector - len(entries)) + second + bytes(sector - len(second))
    return bytes(made), (last - room) * sector, backup


def _read(head: bytes, sector: int) -> tuple[int, ...] | None:
    """Fields of the header, the first and the UUID as they are; None for one that is damaged."""
    raw = head[sector : sector + _HEADER.size]
    if len(raw) < _HEADER.size or raw[:8] != _MAGIC:
        return None
    told = _HEADER.unpack(raw)
    length, crc = told[2], told[3]
    if not _HEADER.size <= length <= sector or told[12] < 128 or told[11] * told[12] > 1 << 20:
        return None
    whole = bytearray(head[sector : sector + length])
    whole[16:20] = bytes(4)
    return told if crc32(bytes(whole)) == crc else None


def _header(told: tuple[int, ...], mine: int, other: int, usable: int, table: int) -> bytes:
    values = list(told)
    values[2], values[3] = _HEADER.size, 0
    values[5], values[6], values[8], values[10] = mine, other, usable, table
    values[3] = crc32(_HEADER.pack(*values))
    return _HEADER.pack(*values)


def _cover(head: bytearray, last: int) -> None:
    """The old kind of table in the first sector says that all of the disk is taken."""
    for at in range(446, 510, 16):
        if head[at + 4] == _PROTECTIVE:
            head[at + 12 : at + 16] = struct.pack("<I", min(last, 0xFFFFFFFF))
