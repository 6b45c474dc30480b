"""Where files lie on the device, as sorted numbers: for counting what only some of them hold.

All space that a file occupies counts, written or reserved; what the filesystem keeps beside it
(extent trees, directories, space that XFS sets aside for writes to come) does not. In bytes.
"""

from __future__ import annotations

import array
import fcntl
import os
import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

_FIEMAP = 0xC020660B
_SYNC, _LAST = 0x1, 0x1
_NOWHERE = 0x2 | 0x4 | 0x200  # unknown place, not yet allocated, within the inode
_HEAD = struct.Struct("=QQIIII")
_WORDS = 7
"""An extent as the kernel tells it is so many words of 64 bits."""
_AT_ONCE = 4096


def _words() -> array.array[int]:
    return array.array("Q")


@dataclass
class Places:
    """Stretches of the device, sorted, that neither overlap nor touch: ``ends[i]`` is behind the
    one that begins at ``starts[i]``."""

    starts: array.array[int] = field(default_factory=_words)
    ends: array.array[int] = field(default_factory=_words)

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(self.ends) - sum(self.starts)

    def __len__(self) -> int:
        return len(self.starts)

    def without(self, other: Places) -> Places:
        """What of this ``other`` does not hold."""
        left = Places()
        add_start, add_end = left.starts.append, left.ends.append
        starts, ends, count = other.starts, other.ends, len(other)
        for start, end in zip(self.starts, self.ends, strict=True):
            at = bisect_right(ends, start)
            while at < count and starts[at] < end:
                if starts[at] > start:
                    add_start(start)
                    add_end(starts[at])
                start = ends[at]
                at += 1
            if start < end:
                add_start(start)
                add_end(end)
        return left


def merged(stretches: Iterator[tuple[int, int]]) -> Places:
    """Of (start, end) in any order; what is told twice counts once."""
    found = Places()
    last = -1
    for start, end in sorted(stretches):
        if start <= last:
            if end > last:
                found.ends[-1] = last = end
        else:
            found.starts.append(start)
            found.ends.append(end)
            last = end
    return found


def joined(parts: list[Places]) -> Places:
    """All that any of them holds."""
    return merged(chain.from_iterable(zip(one.starts, one.ends, strict=True) for one in parts))


def places_of(path: Path, sync: bool = True) -> Places:
    """Where a file lies; what of it is not yet on the device is written out first (``sync``), or
    left out.

    A filesystem that can't tell raises ``OSError`` (EOPNOTSUPP).
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return merged(_extents(handle, _SYNC if sync else 0))
    finally:
        os.close(handle)


def _extents(handle: int, flags: int) -> Iterator[tuple[int, int]]:
    head = _HEAD.size
    request = bytearray(head + _AT_ONCE * _WORDS * 8)
    at, everything = 0, (1 << 64) - 1
    while at < everything:
        _HEAD.pack_into(request, 0, at, everything - at, flags, 0, _AT_ONCE, 0)
        fcntl.ioctl(handle, _FIEMAP, request, True)
        count = _HEAD.unpack_from(request)[3]
        if not count:
            return
        told = array.array("Q", bytes(request[head : head + count * _WORDS * 8]))
        for place, length, kind in zip(
            told[1::_WORDS], told[2::_WORDS], told[5::_WORDS], strict=True
        ):
            if not kind & _NOWHERE:
                yield place, place + length
        if told[5 + (count - 1) * _WORDS] & _LAST:
            return
        at = told[(count - 1) * _WORDS] + told[2 + (count - 1) * _WORDS]
