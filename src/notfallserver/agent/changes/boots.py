"""Whether the system went down in order: only then every ctime has reached the disk.

After a crash a block that was overwritten may be new while its file's ctime is lost: nothing can
be proved then. So knowledge is kept only when the whole system is going down, and used only
where nothing tells that a filesystem had to be repaired at the next start.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import List

from notfallserver.agent import commands
from notfallserver.wire.errors import NotfallError

_LOG = "/dev/kmsg"
_CHECKS = Path("/run/initramfs/fsck.log")
_NFS = Path("/proc/fs/nfsd/threads")
_REPAIRED = re.compile(
    r"EXT4-fs error|EXT4-fs \(.*(recovery complete|orphan cleanup|mounting fs with errors)"
    r"|XFS \(.*([Ss]tarting recovery|[Ee]nding recovery|[Cc]orruption|[Ss]hutting down)"
    r"|recovering journal"
)


def going_down() -> bool:
    """Whether systemd is shutting the machine down, and not only this service."""
    try:
        commands.run(["systemctl", "is-system-running"])
    except NotfallError as error:
        return error.cause.endswith("stopping")  # any state but "running" is a failure to it
    return False


def repaired(log: List[str]) -> bool:
    """Whether the kernel's log since boot tells of a repair, or does not reach back so far."""
    if not log or log[0].split(",")[1:2] != ["0"]:
        return True
    return any(_REPAIRED.search(line) for line in log)


def read_log() -> List[str]:
    """The kernel's log as ``priority,number,time,flags;text``; empty if it can't be read."""
    lines: List[str] = []
    try:
        handle = os.open(_LOG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return lines
    try:
        while True:
            lines.append(os.read(handle, 8192).decode("utf-8", "replace"))
    except BlockingIOError:
        return lines
    except OSError:  # lines were overwritten meanwhile
        return []
    finally:
        os.close(handle)


def went_down_in_order() -> bool:
    """As far as this boot can tell of the end of the one before."""
    return not repaired(read_log()) and not _REPAIRED.search(_checks())


def _checks() -> str:
    """What the checks of filesystems said in this boot: of the root, and of the others.

    They replay a journal before the kernel sees it, so the kernel's log does not tell.
    """
    try:
        of_root = _CHECKS.read_text(errors="replace")
    except OSError:
        of_root = ""
    try:
        return of_root + commands.run(["journalctl", "-b", "-q", "-o", "cat", "-t", "systemd-fsck"])
    except NotfallError:
        return "recovering journal"  # for all we know


def clock_offset() -> float:
    """Seconds from the machine's start to 1970; smaller when the clock was set back."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def serves_files() -> bool:
    """Whether an NFS server runs: its clients may keep the times of files themselves."""
    try:
        return int(_NFS.read_text()) > 0
    except (OSError, ValueError):
        return False
