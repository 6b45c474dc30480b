"""Files of an NTFS volume at one moment, so that a copy can be compared with it.

The counterpart of ``agent/sample.py``: chosen at random from the file table, small, and changed by
nobody for a day. Their content is read where it lies, so no filesystem is asked and the moment is
that of the snapshot. Only what is stored plain is taken; what can't be read is left out. Only names
of ASCII are told: how others are spelled is a matter of who mounts the copy.
"""

from __future__ import annotations

import random
import struct
import time
from hashlib import sha256
from typing import Any, Dict, List, Optional

from notfallserver.agent import sampling
from notfallserver.agent.ntfs.boot import Unreadable
from notfallserver.agent.ntfs.names import path_of
from notfallserver.agent.ntfs.record import (
    COMPRESSED,
    DATA,
    ENCRYPTED,
    REPARSE_POINT,
    SPARSE,
    STANDARD_INFORMATION,
    Record,
)
from notfallserver.agent.ntfs.volatile import NAMES
from notfallserver.agent.ntfs.volume import Volume

ADAPTED = (
    *("/windows/system32/config", "/windows/system32/drivers", "/windows/system32/driverstore"),
    *(
        "/windows/inf",
        "/windows/temp",
        "/windows/prefetch",
        "/windows/logs",
        "/programdata/notfall",
    ),
    *("/windows/softwaredistribution", "/windows/system32/logfiles", "/windows/system32/winevt"),
    *("/boot", "/efi", "/recovery", "/system volume information", "/$"),
)
"""Beginnings, in lower case: where the adaptation of a copy may write, and what no two moments
share."""
MISSES = 2000
"""So many records in a row that were not fit end it."""
_SYSTEM = 4
"""Attribute of a file. Links of other systems are such files, and a copy shows them as links."""
_OWN = 24
"""Records below are the filesystem's own."""
_1970 = 11644473600
"""Seconds since 1601, where NTFS begins to count."""


def take_sample(
    volume: Volume, most: int, within_s: float = sampling.WITHIN_S
) -> List[Dict[str, Any]]:
    """At most so many, each once, as they are told with the version."""
    luck, until = random.Random(), time.monotonic() + within_s
    found: Dict[int, Dict[str, Any]] = {}
    misses, records = 0, volume.records
    while len(found) < most and misses < MISSES and records > _OWN:
        if time.monotonic() > until:
            break
        number = luck.randrange(_OWN, records)
        one = None if number in found else _told(volume, number)
        if one is None:
            misses += 1
            continue
        misses = 0
        found[number] = one
    return list(found.values())


def _told(volume: Volume, number: int) -> Optional[Dict[str, Any]]:
    """None for what is not fit."""
    try:
        record = volume.record(number)
        if not is_at_rest(record, time.time()):
            return None
        stored = volume.stored(number, DATA)
        if stored is None or stored.flags & (COMPRESSED | ENCRYPTED | SPARSE):
            return None
        if not 0 < stored.size <= sampling.LARGEST:
            return None
        path = path_of(volume, record)
        if path is None or not path.isascii() or is_adapted(path):
            return None
        content = volume.read(stored, 0, stored.size)
    except Unreadable:
        return None
    if len(content) != stored.size:
        return None
    return sampling.told(volume.shape.uuid, path, stored.size, sha256(content).hexdigest())


def is_at_rest(record: Record, now: float) -> bool:
    """Whether it is a file of its own, plain, that nobody has changed for a day."""
    own = [one.value or b"" for one in record.find(STANDARD_INFORMATION)]
    if record.directory or record.base.number or record.find(REPARSE_POINT):
        return False
    if len(own) != 1 or len(own[0]) < 36:
        return False
    modified, changed, _, flags = struct.unpack_from("<QQQL", own[0], 8)
    if flags & _SYSTEM:
        return False
    last = float(max(modified, changed)) / 1e7 - _1970
    return now - last >= sampling.AT_REST_S


def is_adapted(path: str) -> bool:
    lower = path.lower()
    return lower.startswith(ADAPTED) or lower[1:] in NAMES
