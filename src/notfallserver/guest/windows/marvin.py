"""Marvin32, the checksum of entries in a hive's transaction log. Pure."""

from __future__ import annotations

import struct
from typing import Iterable, Tuple

SEED = (0x7A4E55C5, 0x82EF4D88)
"""The registry's, as lower and upper word."""
_ALL = 0xFFFFFFFF


def marvin32(data: bytes) -> int:
    """The 64-bit checksum of ``data``."""
    whole = len(data) & ~3
    tail = data[whole:] + b"\x80"
    words = struct.unpack(f"<{whole // 4}I", data[:whole])
    low, high = _mixed(words, *SEED)
    low, high = _mixed((int.from_bytes(tail, "little"), 0), low, high)
    return low | high << 32


def _mixed(words: Iterable[int], low: int, high: int) -> Tuple[int, int]:
    """One round a word. Written out, because a log has millions of words."""
    for word in words:
        low = low + word & _ALL
        high ^= low
        low = (low << 20 | low >> 12) + high & _ALL
        high = (high << 9 | high >> 23) & _ALL ^ low
        low = (low << 27 | low >> 5) + high & _ALL
        high = (high << 19 | high >> 13) & _ALL
    return low, high
