"""Free clusters of an NTFS volume, from its own bitmap.

A bit that is 1 says that the cluster is in use. The bitmap may be longer than the volume has
clusters: what is behind the last one tells nothing. Not in the bitmap at all, and so never free:
the volume's last sectors behind its last whole cluster, with the copy of the boot sector.
"""

from __future__ import annotations

from typing import Iterable, Iterator, List, Tuple

from notfallserver.agent.ntfs.boot import Unreadable
from notfallserver.agent.ntfs.record import DATA
from notfallserver.agent.ntfs.volume import Extent, Volume
from notfallserver.wire.blocks import BLOCK

_BITMAP = 6
"""The record of the file $Bitmap."""


def free_extents(volume: Volume) -> List[Extent]:
    """Free space in bytes from the volume's start; pieces that can't hold a block are left out.

    Raises :class:`Unreadable` if the bitmap does not tell of every cluster.
    """
    stored = volume.stored(_BITMAP, DATA)
    shape = volume.shape
    if stored is None or min(stored.size, stored.initialised) * 8 < shape.clusters:
        raise Unreadable("the bitmap is too short")
    least = -(-BLOCK // shape.cluster)
    return [
        (first * shape.cluster, count * shape.cluster)
        for first, count in zero_bits(volume.pieces(stored), shape.clusters, least)
    ]


def zero_bits(pieces: Iterable[bytes], bits: int, least: int) -> Iterator[Tuple[int, int]]:
    """Runs of at least ``least`` bits that are 0 among the first ``bits``: first and number."""
    wanted = "0" * least
    at, begin = 0, -1  # of a run that reached the end of the piece before
    for piece in pieces:
        here = min(len(piece) * 8, bits - at)
        if here <= 0:
            break
        text = _as_text(piece)[:here]
        place = 0
        if begin >= 0:
            place = text.find("1")
            if place < 0:
                at += here
                continue
            if at + place - begin >= least:
                yield begin, at + place - begin
            begin = -1
        tail = len(text.rstrip("0"))
        while True:
            place = text.find(wanted, place, tail)
            if place < 0:
                break
            end = text.index("1", place)
            yield at + place, end - place
            place = end
        if tail < here:
            begin = at + tail
        at += here
    if begin >= 0 and at - begin >= least:
        yield begin, at - begin


def _as_text(piece: bytes) -> str:
    """One character for each bit, in the bitmap's order: the lowest of each byte first."""
    size = len(piece)
    if piece == b"\xff" * size:
        return "1" * (size * 8)
    if piece == bytes(size):
        return "0" * (size * 8)
    return f"{int.from_bytes(piece, 'little'):0{size * 8}b}"[::-1]
