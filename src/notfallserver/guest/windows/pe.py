"""Whether a program file of Windows carries a signature of its own. Pure.

Microsoft demands one of drivers that start with Windows (64 bit, since Vista), so that its loader
need not search all catalogues of signatures for theirs. Who signed is not looked at: Windows does.
"""

from __future__ import annotations

import struct

HEAD = 1 << 14
"""So many bytes of a file are enough."""

_HEADER_AT, _MOST = 0x3C, 1 << 16
_BEHIND_SIGNATURE, _OPTIONAL = 4, 24
_CERTIFICATES = {0x10B: 96 + 4 * 8, 0x20B: 112 + 4 * 8}
"""By the kind of the optional header (32 or 64 bit): where the entry of the certificates is."""


def has_signature(head: bytes) -> bool:
    """``head``: the first :data:`HEAD` bytes of the file."""
    try:
        (at,) = struct.unpack_from("<I", head, _HEADER_AT)
        if at > _MOST or head[at : at + _BEHIND_SIGNATURE] != b"PE\0\0":
            return False
        (kind,) = struct.unpack_from("<H", head, at + _OPTIONAL)
        place, size = struct.unpack_from("<II", head, at + _OPTIONAL + _CERTIFICATES[kind])
    except (struct.error, KeyError):
        return False
    return bool(place and size)
