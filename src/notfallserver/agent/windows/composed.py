"""A whole disk put together: its volumes from their snapshots, all else from the disk itself.

So partition tables, gaps and volumes without a snapshot are as they are now, and everything else
as it was at the snapshot's moment. Files whose content is worthless read as zeros, to the byte:
half a hibernation file must never look like one.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import List, Sequence

from notfallserver.agent.disks.base import Protected
from notfallserver.agent.disks.direct import DirectDisk
from notfallserver.agent.disks.runs import Extent, merged
from notfallserver.agent.windows.system import Handle, Refused
from notfallserver.wire.errors import NotfallError

BLANK = -1
"""Instead of a source: zeros."""
ITSELF = 0
"""The first source: the disk."""


@dataclass(frozen=True)
class Overlay:
    """The disk's bytes from ``start`` on are read from the beginning of ``source``."""

    start: int
    length: int
    source: int


@dataclass(frozen=True)
class Piece:
    start: int
    length: int
    source: int
    at: int  # in the source


def compose(size: int, overlays: Sequence[Overlay], blank: Sequence[Extent]) -> List[Piece]:
    """Pieces that cover a disk of ``size`` bytes without gap or overlap (pure).

    ``blank`` are extents of the disk. Overlays don't overlap.
    """
    pieces: List[Piece] = []
    end = 0
    for one in sorted(overlays, key=lambda overlay: overlay.start):
        if one.start < end or one.start + one.length > size:
            raise ValueError("volumes overlap, or are larger than their disk")
        if one.start > end:
            pieces.append(Piece(end, one.start - end, ITSELF, end))
        pieces.append(Piece(one.start, one.length, one.source, 0))
        end = one.start + one.length
    if end < size:
        pieces.append(Piece(end, size - end, ITSELF, end))
    return _blanked(pieces, merged(blank))


def _blanked(pieces: Sequence[Piece], blank: Sequence[Extent]) -> List[Piece]:
    found: List[Piece] = []
    place = 0
    for piece in pieces:
        at, end = piece.start, piece.start + piece.length
        while place < len(blank) and sum(blank[place]) <= at:
            place += 1
        here = place
        while at < end:
            first, length = blank[here] if here < len(blank) else (end, 0)
            until = min(max(first, at), end)
            if until > at:
                found.append(Piece(at, until - at, piece.source, piece.at + at - piece.start))
            at, until = until, min(max(first + length, until), end)
            if until > at:
                found.append(Piece(at, until - at, BLANK, 0))
            at = until
            here += 1
    return found


class ComposedDisk(DirectDisk):
    """Reads like a disk, from several threads, too. The caller closes the sources."""

    def __init__(self, disk: Protected, pieces: Sequence[Piece], sources: Sequence[Handle]) -> None:
        self.disk = disk
        self.size = disk.size
        self._pieces = list(pieces)
        self._starts = [one.start for one in pieces]
        self._sources = list(sources)

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill ``view`` with what is at ``offset``."""
        done = 0
        number = bisect_right(self._starts, offset) - 1
        while done < len(view):
            if number >= len(self._pieces):
                raise self._failed(offset + done, "it ends too early")
            piece = self._pieces[number]
            skip = offset + done - piece.start
            length = min(len(view) - done, piece.length - skip)
            part = view[done : done + length]
            if piece.source == BLANK:
                part[:] = bytes(length)
            else:
                self._read(piece.source, part, piece.at + skip, offset + done)
            done += length
            number += 1

    def _read(self, source: int, view: memoryview, at: int, offset: int) -> None:
        done = 0
        while done < len(view):
            try:
                got = self._sources[source].read_into(view[done:], at + done)
            except Refused as error:
                if source != ITSELF:
                    raise _lost(self.disk.name, offset, error) from None
                raise self._failed(offset + done, str(error)) from None
            if got <= 0:
                raise self._failed(offset + done, "it ends too early")
            done += got

    def close(self) -> None:
        """Nothing here is its own."""


def _lost(name: str, offset: int, error: Refused) -> NotfallError:
    return NotfallError(
        "snapshot-lost",
        f"The snapshot of {name} can't be read any more at byte {offset} ({error}).",
        "Let Windows use more room for shadow copies (vssadmin resize shadowstorage), or replicate "
        "at a time when less is being written.",
        retry=True,
    )
