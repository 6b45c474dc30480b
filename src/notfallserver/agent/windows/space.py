"""What of a volume is free, and what of it is worthless, by its snapshot.

Free is only what two call free: the bitmap as it lies in the snapshot (``ntfs/``), and Windows'
filesystem, asked through the snapshot (FSCTL), which also knows what its log has not yet brought to
the bitmap. Where only one of both can be had:

    Windows says nothing    the bitmap counts if the log is clean, else all is used
    NTFS is not understood  what Windows says counts
    neither                 all is used

What is worthless is believed only where the bitmap is known to be current: the log is clean, or
both say the same.
"""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass
from typing import Iterator, List, Optional

from notfallserver.agent.disks.runs import Extent, intersect
from notfallserver.agent.ntfs.bitmap import free_extents, zero_bits
from notfallserver.agent.ntfs.boot import Unreadable
from notfallserver.agent.ntfs.log import log_is_clean
from notfallserver.agent.ntfs.volatile import volatile_extents
from notfallserver.agent.ntfs.volume import Volume
from notfallserver.agent.windows import answers
from notfallserver.agent.windows.answers import BadAnswer
from notfallserver.agent.windows.system import Handle, Refused, asked
from notfallserver.wire.blocks import BLOCK

log = logging.getLogger("notfall-agent")

_PART = 1 << 20
"""Bytes of a bitmap that are asked for at a time."""


@dataclass(frozen=True)
class Space:
    """Extents in bytes from the volume's start. ``blank`` is in use, and reads as zeros."""

    free: List[Extent]
    blank: List[Extent]
    volume: Optional[Volume] = None
    """To be read as long as the snapshot's handle is open; None if it is not understood."""


class Reader:
    """Any bytes of a handle that only gives whole sectors; fewer at the end."""

    def __init__(self, handle: Handle, size: int, sector: int) -> None:
        self._handle, self._size, self._sector = handle, size, sector

    def __call__(self, at: int, length: int) -> bytes:
        start = at // self._sector * self._sector
        end = min(-(-(at + length) // self._sector) * self._sector, self._size)
        if end <= start:
            return b""
        return self._handle.read(start, end - start)[at - start :][:length]


def space_of(handle: Handle, size: int, sector: int, name: str) -> Space:
    """Of the snapshot of an NTFS volume of ``size`` bytes; ``name`` is for the log."""
    told = told_by_windows(handle, name)
    try:
        volume = Volume(Reader(handle, size, sector), size)
        own, blank = free_extents(volume), volatile_extents(volume)
        clean = log_is_clean(volume)
    except Unreadable as error:
        log.warning("%s: its NTFS is not understood (%s)", name, error)
        return Space(told or [], [])
    if told is None:
        return Space(own if clean else [], blank if clean else [], volume)
    known = clean or own == told
    return Space(intersect(own, told), blank if known else [], volume)


def told_by_windows(handle: Handle, name: str) -> Optional[List[Extent]]:
    """Free extents as the filesystem of a volume or snapshot tells them; None if it doesn't."""
    try:
        return _asked_free(handle)
    except (Refused, BadAnswer) as error:
        log.warning("%s: Windows does not tell its free space (%s)", name, error)
        return None


def _asked_free(handle: Handle) -> List[Extent]:
    told = answers.read_ntfs_data(asked(handle, answers.GET_NTFS_VOLUME_DATA))
    least = -(-BLOCK // told.cluster)
    return [
        (first * told.cluster, count * told.cluster)
        for first, count in zero_bits(_bitmap(handle, told.clusters), told.clusters, least)
    ]


def _bitmap(handle: Handle, clusters: int) -> Iterator[bytes]:
    """The bitmap in pieces of whole bytes, each beginning where the last one ended."""
    at = 0
    while at < clusters:
        given = struct.pack("<q", at)
        part = answers.read_bitmap(handle.control(answers.GET_VOLUME_BITMAP, given, _PART).content)
        bits = part.bits[: -(-part.clusters // 8)]
        if part.first != at or not bits:
            raise BadAnswer("a part of the bitmap is missing")
        yield bits
        at += len(bits) * 8
