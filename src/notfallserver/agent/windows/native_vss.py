"""The entry to VSS, through ctypes: what makes the object that ``vss.py`` calls.

Not importable elsewhere, and **not shown on any real Windows yet**: entry and order are those of
vsbackup.h and of the documentation of VSS requesters.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Callable, Sequence, Tuple

from notfallserver.agent.applications.application import Applied
from notfallserver.agent.windows.com import ComError, Interface
from notfallserver.agent.windows.moment import Take
from notfallserver.agent.windows.snapshots import no_snapshot, take_snapshots
from notfallserver.agent.windows.vss import Freeing, SnapshotSet

assert sys.platform == "win32"  # noqa: S101  (tells type checkers, too)

_MULTITHREADED = 0
_PACKET_PRIVACY, _IDENTIFY = 6, 2
_CHANGED_MODE = 0x80010106
_TOO_LATE = 0x80010119


def begin() -> None:
    """Once per thread that uses VSS, before any other COM call of it.

    VSS calls back into this process: only whoever is encrypted and identified may.
    """
    ole32 = ctypes.WinDLL("ole32")
    number = ole32.CoInitializeEx(None, _MULTITHREADED) & 0xFFFFFFFF
    if number & 0x80000000 and number != _CHANGED_MODE:
        raise ComError("CoInitializeEx", number)
    number = (
        ole32.CoInitializeSecurity(
            *(None, -1, None, None, _PACKET_PRIVACY, _IDENTIFY, None, 0, None),
        )
        & 0xFFFFFFFF
    )
    if number & 0x80000000 and number != _TOO_LATE:  # it holds for the whole process
        raise ComError("CoInitializeSecurity", number)


def taker(check: Callable[[], None], wait: Callable[[float], None]) -> Take:
    """Makes the snapshots of a run; see :func:`take_snapshots`."""

    def take(volumes: Sequence[str]) -> Tuple[SnapshotSet, Tuple[Applied, ...]]:
        try:
            begin()
        except ComError as error:
            raise no_snapshot(error) from None
        return take_snapshots(volumes, lambda context: _new_set(check, context), wait)

    return take


def _new_set(check: Callable[[], None], context: int) -> SnapshotSet:
    vssapi = ctypes.WinDLL("vssapi")
    oleaut32 = ctypes.WinDLL("oleaut32")
    pointer = ctypes.c_void_p()
    number = vssapi.CreateVssBackupComponentsInternal(ctypes.byref(pointer)) & 0xFFFFFFFF
    if number & 0x80000000:
        raise ComError("CreateVssBackupComponents", number)

    def free_properties(one: object) -> None:
        vssapi.VssFreeSnapshotPropertiesInternal(ctypes.byref(one))  # type: ignore[arg-type]

    def free_text(address: int) -> None:
        oleaut32.SysFreeString(ctypes.c_void_p(address))

    return SnapshotSet(
        Interface(pointer.value or 0), Freeing(free_properties, free_text), check, context
    )
