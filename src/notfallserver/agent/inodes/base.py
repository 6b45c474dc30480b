"""What every reader of inodes yields. Positions and lengths are bytes from the volume's start."""

from __future__ import annotations

import hashlib
import struct
from typing import Callable, Iterator, List, NamedTuple

from notfallserver.agent.disks.runs import Extent

FINGERPRINT = 8
"""Bytes: that a change goes unseen by chance is less likely than an error of the disk."""

Read = Callable[[int, int], bytes]
"""Reads from a volume past the cache: position, length."""


class Inode(NamedTuple):
    """One regular file whose blocks are its own alone and are changed only with its ctime.

    ``fingerprint`` covers all that a change of content or place touches, but not the time of
    access; ``changed`` is the ctime in nanoseconds since 1970; ``extents`` are the written ones.
    """

    number: int
    fingerprint: bytes
    changed: int
    extents: List[Extent]


Inodes = Iterator[Inode]
"""Ascending by number. What the reader has a doubt about is left out."""


class NotUnderstood(Exception):
    """The filesystem has something that the reader doesn't know: nothing is said about it."""


def fingerprint(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"".join(parts), digest_size=FINGERPRINT).digest()


def understood(inodes: Callable[[], Inodes]) -> Callable[[], Inodes]:
    """The same, where what is cut short or torn is :class:`NotUnderstood`, too."""

    def read() -> Inodes:
        try:
            yield from inodes()
        except (struct.error, IndexError, OverflowError, ValueError) as error:
            raise NotUnderstood(f"broken ({error})") from None

    return read
