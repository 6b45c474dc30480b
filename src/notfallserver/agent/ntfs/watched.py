"""Which files of an NTFS volume are watched, and how they look at one moment; see ``watching.py``.

Chosen by numbers of the file table that the volume's own UUID gives, so the same ones each time. A
file keeps its number when it is renamed, or written anew in place; one that was deleted gives it
away with another sequence, so it counts as gone.
"""

from __future__ import annotations

import random
import time
from typing import Any, Dict, List, Optional

from notfallserver.agent.ntfs.boot import Unreadable
from notfallserver.agent.ntfs.names import path_of
from notfallserver.agent.ntfs.record import (
    COMPRESSED,
    DATA,
    ENCRYPTED,
    REPARSE_POINT,
    SPARSE,
)
from notfallserver.agent.ntfs.sample import is_adapted
from notfallserver.agent.ntfs.volume import Volume
from notfallserver.agent.watching import LONGEST, PIECE, WITHIN_S, told

TRIES = 6000
PROGRAMS = ("/windows/", "/program files", "/programdata/microsoft/", "/programdata/package cache/")
"""What updates change; beginnings, in lower case."""
_OWN = 24
"""Records below are the filesystem's own."""


def look_at_files(volume: Volume, most: int, within_s: float = WITHIN_S) -> List[Dict[str, Any]]:
    """At most so many, as they are told."""
    luck, until = random.Random(volume.shape.uuid), time.monotonic() + within_s
    bits, records = volume.records.bit_length(), volume.records
    found: Dict[int, Dict[str, Any]] = {}
    for _ in range(TRIES):
        if len(found) >= most or time.monotonic() > until:
            break
        number = luck.getrandbits(bits)  # by whole bits: a table that grew gives the same ones
        if _OWN <= number < records and number not in found:
            one = _look(volume, number)
            if one is not None:
                found[number] = one
    return list(found.values())


def _look(volume: Volume, number: int) -> Optional[Dict[str, Any]]:
    try:
        record = volume.record(number)
        if record.directory or record.base.number or record.find(REPARSE_POINT):
            return None
        stored = volume.stored(number, DATA)
        if stored is None or not stored.size:
            return None
        if stored.flags & (COMPRESSED | ENCRYPTED | SPARSE):
            return None
        path = path_of(volume, record)
        if path is None or is_adapted(path) or path.lower().startswith(PROGRAMS):
            return None
        if len(path.encode()) > LONGEST:
            return None
        middle = stored.size // 2 // PIECE * PIECE
        head, further = volume.read(stored, 0, PIECE), volume.read(stored, middle, PIECE)
    except (Unreadable, UnicodeEncodeError):
        return None
    key = f"{volume.shape.uuid[:8]}-{number:x}-{record.sequence:x}"
    return told(key, path, stored.size, head, further)
