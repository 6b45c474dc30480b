"""Free space of a mounted ext4 or XFS filesystem, told by the filesystem itself.

FS_IOC_GETFSMAP lists what each part of the device is used for; records of kind "free" are taken,
everything else counts as used. It works while the filesystem is frozen.
"""

from __future__ import annotations

import ctypes
import struct
from typing import List, Optional

from notfallserver.agent import kernel
from notfallserver.agent.disks.base import encoded_device
from notfallserver.agent.disks.runs import Extent

_GETFSMAP = 0xC0C0583B
_HEAD = struct.Struct("=4I48x")  # then two keys and the records
_RECORD = struct.Struct("=2I4Q24x")  # device, flags, physical, owner, offset, length
_RECORDS = 4096
_SPECIAL, _LAST = 0x10, 0x20
_FREE = 1
_ALL = 2**64 - 1
_ALL_32 = 2**32 - 1


def free_extents(handle: int, device: int) -> Optional[List[Extent]]:
    """Free extents in bytes from the volume's start; None if the filesystem doesn't tell.

    ``handle`` is open on the mount point, ``device`` is the volume's number.
    """
    buffer = bytearray(_HEAD.size + (2 + _RECORDS) * _RECORD.size)
    address = kernel.address_of(buffer)
    mine = encoded_device(device)
    free: List[Extent] = []
    _HEAD.pack_into(buffer, 0, 0, 0, _RECORDS, 0)
    _RECORD.pack_into(buffer, _HEAD.size, 0, 0, 0, 0, 0, 0)
    _RECORD.pack_into(buffer, _HEAD.size + _RECORD.size, _ALL_32, _ALL_32, _ALL, _ALL, _ALL, 0)
    start = _HEAD.size + 2 * _RECORD.size
    while True:
        try:
            kernel.ioctl(handle, _GETFSMAP, address)
        except OSError:
            return None
        count = _HEAD.unpack_from(buffer)[3]
        if not count:
            return free
        view = memoryview(buffer)[start : start + count * _RECORD.size]
        free += [
            (physical, length)
            for dev, flags, physical, owner, _, length in _RECORD.iter_unpack(view)
            if owner == _FREE and flags & _SPECIAL and dev == mine
        ]
        last = buffer[start + (count - 1) * _RECORD.size : start + count * _RECORD.size]
        if struct.unpack_from("=I", last, 4)[0] & _LAST:
            return free
        ctypes.memset(address + _HEAD.size, 0, _RECORD.size)
        buffer[_HEAD.size : _HEAD.size + _RECORD.size] = last  # go on behind the last record
