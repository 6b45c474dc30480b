"""Being a small load: low priority for processor and disks, except while filesystems are frozen.

Who works on the primary comes first. Only in the frozen moment everybody who writes waits for us:
then it is in everybody's interest that we are quick. Priorities belong to threads in Linux; those
that are started later inherit them. Disks: the lowest step of best-effort and not the idle class,
with which a run on a busy disk would never end.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator, List, Tuple

from notfallserver.agent import kernel

NICE = 10
_NICE_FROZEN = -10
_BEST_EFFORT = 2 << 13
_LOWEST = _BEST_EFFORT | 7
_HIGHEST = _BEST_EFFORT | 0
_OF_THREAD = 1  # IOPRIO_WHO_PROCESS, which means a thread
_IDLE_CLASS = 3


def settle_down(nice: int = NICE) -> None:
    """Lower this thread's priority, and so that of all threads and programs it starts.

    What is lower already, because somebody set the service so, stays.
    """
    with suppress(OSError):
        if os.getpriority(os.PRIO_PROCESS, 0) < nice:
            os.setpriority(os.PRIO_PROCESS, 0, nice)
    if nice and kernel.has_syscalls():
        with suppress(OSError):
            if kernel.syscall("ioprio_get", _OF_THREAD, 0) >> 13 != _IDLE_CLASS:
                kernel.syscall("ioprio_set", _OF_THREAD, 0, _LOWEST)


def _threads() -> List[int]:
    return [int(one.name) for one in Path("/proc/self/task").iterdir()]


@contextmanager
def hurry() -> Iterator[None]:
    """Within the block all threads there are come first; without the right to, all stays as it is.

    Enter and leave it outside of the freeze. A program started within inherits it.
    """
    before: List[Tuple[int, int, int]] = []
    for thread in _threads():
        with suppress(OSError):  # it may have ended
            disk = kernel.syscall("ioprio_get", _OF_THREAD, thread) if kernel.has_syscalls() else 0
            before.append((thread, os.getpriority(os.PRIO_PROCESS, thread), disk))
    try:
        for thread, _, _ in before:
            _set(thread, _NICE_FROZEN, _HIGHEST)
        yield
    finally:
        for thread, nice, disk in before:
            _set(thread, nice, disk)


def _set(thread: int, nice: int, disk: int) -> None:
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, nice)
    if kernel.has_syscalls():
        with suppress(OSError):
            kernel.syscall("ioprio_set", _OF_THREAD, thread, disk)
