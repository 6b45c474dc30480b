"""What XFS sets aside for writes to come into files that share blocks.

Whoever writes into a shared block gets the new one out of a stretch of 128 KiB that is taken as a
whole; what is not used of it counts as occupied, until XFS gives it back minutes after the last
write (``speculative_prealloc_lifetime``), never under a file that stays open for writing, and at
once where it runs out of space. Nothing is lost by that, but free space looks smaller than it is.
Other filesystems have nothing of that kind.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from notfallserver.server.host.asked import asked

_GET = 0x801C581F  # FS_IOC_FSGETXATTR
_SET = 0x401C5820  # FS_IOC_FSSETXATTR
_COW_UNIT = 0x00010000  # FS_XFLAG_COWEXTSIZE
_ATTRIBUTES = struct.Struct("=IIIII8x")  # flags, extsize, extents, project, cowextsize
_GIVE_BACK = 0x8080583A  # XFS_IOC_FREE_EOFBLOCKS, which frees what is for writes to clones as well
_REQUEST = struct.Struct("=IIIIIIQ96x")  # version, flags, uid, gid, project, -, least size
_VERSION = 1
_ALL_OF_IT = 1  # XFS_EOF_FLAGS_SYNC: wait for files that are in use just now


def set_cow_unit(directory: Path, size: int) -> bool:
    """Files made in ``directory`` take so many bytes for a write into a shared block; so do their
    clones. False where that can't be set."""
    with _opened(directory) as handle, asked() as answer:
        flags, *rest = _ATTRIBUTES.unpack(fcntl.ioctl(handle, _GET, bytes(_ATTRIBUTES.size)))
        told = _ATTRIBUTES.pack(flags | _COW_UNIT, *rest[:3], size)
        fcntl.ioctl(handle, _SET, told)
    return answer.granted


def give_back(directory: Path) -> bool:
    """Have a filesystem give back what it has set aside; takes milliseconds. False where it has
    nothing of that kind, or we may not ask for it."""
    with _opened(directory) as handle, asked() as answer:
        fcntl.ioctl(handle, _GIVE_BACK, _REQUEST.pack(_VERSION, _ALL_OF_IT, 0, 0, 0, 0, 0))
    return answer.granted


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)
