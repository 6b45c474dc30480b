"""Network namespaces by an open file: no name, no process, gone when the file is closed.

A namespace belongs to a thread, so what shall happen in one is done in a short-lived thread that
enters it. What such a thread starts or opens (commands, sockets) stays in the namespace.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_NEW_NET = 0x40000000  # CLONE_NEWNET
_libc = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


def new_namespace() -> int:
    """An open file that holds a new network namespace; needs root."""

    def act() -> int:
        _demand(_libc.unshare(_NEW_NET))
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY)

    return _in_a_thread(act)


def in_namespace(handle: int, act: Callable[[], T]) -> T:
    """Do ``act`` in the namespace of an open file and hand back what it returned."""

    def enter() -> T:
        _demand(_libc.setns(handle, _NEW_NET))
        return act()

    return _in_a_thread(enter)


def _in_a_thread(act: Callable[[], T]) -> T:
    with ThreadPoolExecutor(max_workers=1) as once:
        return once.submit(act).result()


def _demand(failed: int) -> None:
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
