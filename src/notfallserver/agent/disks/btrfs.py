"""Free space of a mounted Btrfs on one device: what is not allocated to any chunk.

Btrfs allocates its device in chunks (device extents, kept in the device tree) and places data and
metadata inside them. Inside a chunk everything counts as used; the rest is free, apart from the
superblock and its copies. Structures and numbers are of the kernel's ``uapi/linux/btrfs.h`` and
``btrfs_tree.h``. The search works while the filesystem is frozen.
"""

from __future__ import annotations

import struct
from typing import Iterator, List, Optional, Tuple

from notfallserver.agent import kernel
from notfallserver.agent.disks.runs import Extent

_TREE_SEARCH = 0xD0009411
_FS_INFO = 0x8400941F
_ARGUMENTS = 4096
_KEY = struct.Struct("=7Q4I32x")  # tree, objectids, offsets, transids, types, items
_FOUND = struct.Struct("=3Q2I")  # transid, objectid, offset, type, length
_DEVICE_TREE, _DEVICE_EXTENT = 4, 204
_ALL = 2**64 - 1
_MANY = 4096
_SUPERBLOCKS = (64 << 10, 64 << 20, 256 << 30)
_SUPERBLOCK = 4096
_RESERVED = 1 << 20
"""Btrfs never allocates the first MiB; a boot loader may live there."""


def devices(handle: int) -> int:
    """On how many devices the filesystem lies; 0 where the kernel doesn't tell."""
    buffer = bytearray(1024)
    try:
        kernel.ioctl(handle, _FS_INFO, kernel.address_of(buffer))
    except OSError:
        return 0
    return int(struct.unpack_from("=2Q", buffer)[1])


def free_extents(handle: int, size: int) -> Optional[List[Extent]]:
    """Free extents in bytes of a volume of ``size`` bytes; None if the filesystem doesn't tell."""
    if devices(handle) != 1:
        return None
    try:
        used = list(_device_extents(handle))
    except OSError:
        return None
    used.append((0, _RESERVED))
    used += [(place, _SUPERBLOCK) for place in _SUPERBLOCKS]
    free: List[Extent] = []
    at = 0
    for start, length in sorted(used):
        if start > at:
            free.append((at, min(start, size) - at))
        at = max(at, start + length)
        if at >= size:
            return free
    free.append((at, size - at))
    return free


def _device_extents(handle: int) -> Iterator[Tuple[int, int]]:
    """Start and length of each device extent in use, in bytes."""
    buffer = bytearray(_ARGUMENTS)
    address = kernel.address_of(buffer)
    device = after = 0  # keys are compared as (device, type, offset)
    while True:
        types = (_DEVICE_EXTENT, _DEVICE_EXTENT)
        key = (_DEVICE_TREE, device, _ALL, after, _ALL, 0, _ALL, *types, _MANY, 0)
        _KEY.pack_into(buffer, 0, *key)
        kernel.ioctl(handle, _TREE_SEARCH, address)
        count = _KEY.unpack_from(buffer)[9]
        at = _KEY.size
        for _ in range(count):
            _, device, start, kind, length = _FOUND.unpack_from(buffer, at)
            at += _FOUND.size
            if kind == _DEVICE_EXTENT:
                yield start, struct.unpack_from("=Q", buffer, at + 24)[0]
            after = start + 1
            at += length
        if not count:
            return
