"""Free clusters of a FAT filesystem (12, 16, 32), from its table. Pure.

A table that breaks a rule gives None: then everything counts as used.
"""

from __future__ import annotations

import struct
from array import array
from typing import Callable, List, Optional

from notfallserver.agent.disks.runs import Extent

Read = Callable[[int, int], bytes]
"""Offset and length in bytes from the volume's start."""

_TABLE_LIMIT = 64 << 20


def free_extents(read: Read, size: int) -> Optional[List[Extent]]:
    """Free extents in bytes from the volume's start."""
    boot = read(0, 512)
    sector, per_cluster, reserved, tables, roots, total16 = struct.unpack_from("<HBHBHH", boot, 11)
    sectors16, total32, sectors32 = struct.unpack_from("<H8xLL", boot, 22)
    length = sectors16 or sectors32
    sectors = total16 or total32
    if sector not in (512, 1024, 2048, 4096) or not per_cluster or not reserved or not tables:
        return None
    data = reserved + tables * length + (roots * 32 + sector - 1) // sector
    clusters = (sectors - data) // per_cluster
    if not length or clusters < 1 or sectors * sector > size:
        return None
    bits = 12 if clusters < 4085 else 16 if clusters < 65525 else 32
    needed = ((clusters + 2) * bits + 7) // 8
    if needed > length * sector or needed > _TABLE_LIMIT:
        return None
    used = _used_map(read(reserved * sector, needed), bits, clusters + 2)
    step = per_cluster * sector
    free: List[Extent] = []
    at = used.find(0, 2)
    while at >= 0:
        end = used.find(1, at)
        if end < 0:
            end = len(used)
        free.append((data * sector + (at - 2) * step, (end - at) * step))
        at = used.find(0, end)
    return free


def _used_map(table: bytes, bits: int, entries: int) -> bytes:
    """One byte per cluster number: 1 where it is in use."""
    if bits == 32:
        return bytes(entry[0] & 0x0FFFFFFF != 0 for entry in struct.iter_unpack("<I", table))
    if bits == 16:
        values = array("H", table)
        return bytes(entry != 0 for entry in values)
    found = bytearray()
    padded = table + bytes(3)
    for number in range(entries):
        pair = padded[number * 3 // 2] | padded[number * 3 // 2 + 1] << 8
        found.append((pair >> 4 if number & 1 else pair & 0xFFF) != 0)
    return bytes(found)
