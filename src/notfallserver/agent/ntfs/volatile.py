"""Where the files lie whose content is worthless in a copy: paging files and the hibernation file.

They are read as zeros: Windows makes the content of paging files anew at each start, and takes a
hibernation file of zeros for none. They are told apart from a person's file of the same name by
what Windows makes of them: in the root, hidden and system, stored plain, with one name.
"""

from __future__ import annotations

import struct
from typing import Dict, Iterator, List, Tuple

from notfallserver.agent.ntfs.boot import Unreadable
from notfallserver.agent.ntfs.record import (
    BITMAP,
    COMPRESSED,
    DATA,
    ENCRYPTED,
    INDEX_ALLOCATION,
    INDEX_ROOT,
    SPARSE,
    STANDARD_INFORMATION,
    Record,
    Reference,
    fixed_up,
    reference,
)
from notfallserver.agent.ntfs.volume import Extent, Volume

NAMES = ("pagefile.sys", "swapfile.sys", "hiberfil.sys")
_ROOT = 5
_INDEX = "$I30"
_LAST = 2
_HIDDEN, _SYSTEM = 2, 4


def volatile_extents(volume: Volume) -> List[Extent]:
    """Their clusters, in bytes from the volume's start."""
    found: List[Extent] = []
    for name, at in root_entries(volume).items():
        if name not in NAMES:
            continue
        record = volume.record(at.number)
        if record.sequence == at.sequence and _is_made_by_windows(record):
            stored = volume.stored(at.number, DATA)
            if stored and not stored.flags & (COMPRESSED | ENCRYPTED | SPARSE):
                found += volume.extents(stored)
    return found


def _is_made_by_windows(record: Record) -> bool:
    told = [one.value or b"" for one in record.find(STANDARD_INFORMATION)]
    if record.directory or record.links != 1 or len(told) != 1 or len(told[0]) < 36:
        return False
    (flags,) = struct.unpack_from("<L", told[0], 32)
    return bool(flags & _HIDDEN and flags & _SYSTEM)


def root_entries(volume: Volume) -> Dict[str, Reference]:
    """The names in the root directory, in lower case."""
    root = volume.stored(_ROOT, INDEX_ROOT, _INDEX)
    if root is None or root.value is None or len(root.value) < 32:
        raise Unreadable("there is no root directory")
    (block,) = struct.unpack_from("<L", root.value, 8)
    found = dict(_entries(root.value, 16))
    blocks = volume.stored(_ROOT, INDEX_ALLOCATION, _INDEX)
    in_use = volume.stored(_ROOT, BITMAP, _INDEX)
    if blocks is None:
        return found
    if in_use is None or block not in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536):
        raise Unreadable("the root directory is broken")
    bits = volume.read(in_use, 0, in_use.size)
    for number in range(min(blocks.size // block, len(bits) * 8)):
        if bits[number // 8] >> number % 8 & 1:
            raw = volume.read(blocks, number * block, block)
            found.update(_entries(fixed_up(raw, b"INDX"), 24))
    return found


def _entries(node: bytes, head: int) -> Iterator[Tuple[str, Reference]]:
    """Of one node, whose index header begins at ``head``."""
    first, length = struct.unpack_from("<LL", node, head)
    at, end = head + first, head + length
    if end > len(node):
        raise Unreadable("a directory is broken")
    while at + 16 <= end:
        packed, size, key, flags = struct.unpack_from("<QHHH", node, at)
        if flags & _LAST:
            return
        if size < 16 + key or at + size > end or key < 66:
            raise Unreadable("a directory is broken")
        letters = node[at + 16 + 64]
        name = node[at + 16 + 66 : at + 16 + 66 + 2 * letters].decode("utf-16-le", "replace")
        yield name.lower(), reference(packed)
        at += size
    raise Unreadable("a directory has no end")
