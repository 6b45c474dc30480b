"""Whether the volume's own log has anything that the volume itself does not have yet. Pure.

NTFS writes its tables late and notes before what it will write. As long as the log is in use, the
bitmap on the disk may still call a cluster free that a file has got.
"""

from __future__ import annotations

import struct
from typing import Optional, Tuple

from notfallserver.agent.ntfs.boot import Unreadable
from notfallserver.agent.ntfs.record import DATA
from notfallserver.agent.ntfs.volume import Volume

_LOG = 2
_PAGES = 2
_STRIDE = 512
_NOBODY = 0xFFFF
_CLEAN = 2


def log_is_clean(volume: Volume) -> bool:
    """True only if that is certain: the newer of the log's two heads says so, or it is empty."""
    stored = volume.stored(_LOG, DATA)
    if stored is None:
        return False
    head = volume.read(stored, 0, 4096)
    if len(head) == 4096 and head == b"\xff" * 4096:
        return True
    try:
        found = [_page(volume.read(stored, at * _size(head), _size(head))) for at in range(_PAGES)]
    except (struct.error, Unreadable):
        return False
    known = [one for one in found if one is not None]
    return len(known) == _PAGES and max(known)[1]


def _size(head: bytes) -> int:
    """Of a page of the log, as its first one tells; the second is right behind it."""
    (size,) = struct.unpack_from("<L", head, 16)
    if head[:4] != b"RSTR" or size not in (4096, 8192, 16384, 32768, 65536):
        raise Unreadable("the log is not understood")
    return int(size)


def _page(raw: bytes) -> Optional[Tuple[int, bool]]:
    """Its place in time, and whether nothing is in use; None for one that is torn."""
    at, count = struct.unpack_from("<HH", raw, 4)
    if raw[:4] != b"RSTR" or (count - 1) * _STRIDE != len(raw) or at + 2 * count > _STRIDE - 2:
        return None
    stamp = raw[at : at + 2]
    if any(raw[end - 2 : end] != stamp for end in range(_STRIDE, len(raw) + 1, _STRIDE)):
        return None
    (area,) = struct.unpack_from("<H", raw, 24)
    if not 26 <= area <= _STRIDE - 2 - 16:
        return None
    (lsn,) = struct.unpack_from("<Q", raw, area)
    used_by, flags = struct.unpack_from("<HH", raw, area + 12)
    return lsn, used_by == _NOBODY or bool(flags & _CLEAN)
