"""The door to the kernel: what Python's standard library doesn't offer, through ctypes.

Every call raises :class:`OSError` with the errno. Calls by ctypes release the interpreter's lock.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from typing import Dict, Optional

FIFREEZE = 0xC0045877
FITHAW = 0xC0045878

MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4

MEMBARRIER_GLOBAL = 1

CAP_SYS_BOOT = 22
_POWER_OFF = 0x4321FEDC

_NUMBERS: Dict[str, Dict[str, int]] = {
    "x86_64": {
        "bpf": 321,
        "perf_event_open": 298,
        "membarrier": 324,
        "ioprio_set": 251,
        "ioprio_get": 252,
    },
    "aarch64": {
        "bpf": 280,
        "perf_event_open": 241,
        "membarrier": 283,
        "ioprio_set": 30,
        "ioprio_get": 31,
    },
}

if sys.platform != "win32":  # there nothing here is called, but modules that are name it
    _libc = ctypes.CDLL(None, use_errno=True)
    _libc.syscall.restype = ctypes.c_long
    _libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def has_syscalls() -> bool:
    """Whether :func:`syscall` knows this processor (and byte order)."""
    return platform.machine() in _NUMBERS


def syscall(name: str, *values: Optional[int]) -> int:
    number = _NUMBERS[platform.machine()][name]
    args = [ctypes.c_long(value or 0) for value in values]
    return _check(int(_libc.syscall(ctypes.c_long(number), *args)), name)


def ioctl(handle: int, request: int, argument: int = 0) -> int:
    """``argument`` is a number or the address of a buffer."""
    return _check(int(_libc.ioctl(handle, request, argument)), f"ioctl 0x{request:x}")


def sync_filesystem(handle: int) -> None:
    _check(int(_libc.syncfs(handle)), "syncfs")


def lock_memory(flags: int = MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) -> None:
    _check(int(_libc.mlockall(flags)), "mlockall")


def unlock_memory() -> None:
    _check(int(_libc.munlockall()), "munlockall")


def mount(source: str, target: str, kind: str) -> None:
    result = _libc.mount(source.encode(), os.fsencode(target), kind.encode(), 0, None)
    _check(int(result), f"mount {target}")


def unmount(target: str) -> None:
    _check(int(_libc.umount2(os.fsencode(target), 0)), f"umount {target}")


def power_off() -> None:
    """Switch this machine off at once: nothing is written out, no program is told.

    Returns only by raising: the caller has no right to, or this is a container.
    """
    _check(int(_libc.reboot(ctypes.c_int(_POWER_OFF))), "reboot")


def may_power_off() -> bool:
    """Whether this process has the right to (CAP_SYS_BOOT)."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> CAP_SYS_BOOT & 1)
    return False


def address_of(buffer: object) -> int:
    """The address of a writable buffer (bytearray, mmap), which the caller keeps alive."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))  # type: ignore[arg-type]


def fill_zero(buffer: object, start: int, length: int) -> None:
    ctypes.memset(address_of(buffer) + start, 0, length)
