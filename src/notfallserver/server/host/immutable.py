"""The immutable flag: what carries it can't be written, cut, renamed or removed, not even by root.

XFS, ext4 and Btrfs keep it with the inode. It is no lock against whoever means harm as root, who
may lift it: it stands between a mistake (``rm -rf``, a machine started on the wrong file) and the
past. Reading, and cloning from it, work as ever.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from pathlib import Path

from notfallserver.server.host.asked import asked

_GET = 0x80086601  # FS_IOC_GETFLAGS
_SET = 0x40086602  # FS_IOC_SETFLAGS
_IMMUTABLE = 0x00000010
_LONG = struct.Struct("l")


def can_protect(directory: Path) -> bool:
    """Whether files in ``directory`` can carry the flag, and we may set it; tried, not guessed."""
    probe = directory / ".immutable-probe"
    try:
        set_immutable(probe, False)  # a crash may have left it
        probe.unlink(missing_ok=True)
        probe.touch(mode=0o600)
        try:
            return set_immutable(probe, True)
        finally:
            set_immutable(probe, False)
            probe.unlink(missing_ok=True)
    except OSError:
        return False


def is_immutable(path: Path) -> bool:
    """False also where there is no such flag."""
    try:
        handle = _open(path)
    except OSError:
        return False
    found = 0
    try:
        with asked():
            found = _flags(handle)
    finally:
        os.close(handle)
    return bool(found & _IMMUTABLE)


def set_immutable(path: Path, on: bool) -> bool:
    """Set or lift the flag of a file or directory; False where that can't be done.

    What is gone counts as done; links and devices are left alone.
    """
    try:
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            return True
        handle = _open(path)
    except FileNotFoundError:
        return True
    except PermissionError:
        return False
    try:
        with asked() as answer:
            before = _flags(handle)
            after = before | _IMMUTABLE if on else before & ~_IMMUTABLE
            if after != before:
                fcntl.ioctl(handle, _SET, _LONG.pack(after))
    finally:
        os.close(handle)
    return answer.granted


def release_tree(directory: Path) -> None:
    """Lift the flag of a directory and of all in it."""
    for parent, directories, files in os.walk(directory):
        for name in (".", *directories, *files):
            set_immutable(Path(parent, name), False)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _flags(handle: int) -> int:
    answer = fcntl.ioctl(handle, _GET, bytes(_LONG.size))
    flags: int = _LONG.unpack(answer)[0]
    return flags & 0xFFFFFFFF
