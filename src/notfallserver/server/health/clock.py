"""Whether this host's clock is kept right by a time server, as the kernel knows it."""

from __future__ import annotations

import ctypes
import struct

HOPELESS_US = 16_000_000
"""The kernel's bound for the clock's error (1/2 ms a second since it was last set right) ends
here. Whether the flag STA_UNSYNC is set says less: systemd-timesyncd sets it on purpose."""
_SIZE = 208
_MAXERROR = struct.Struct("@ILLl")
"""The beginning of ``struct timex``: modes, offset, freq, maxerror."""


def clock_synchronised() -> bool | None:
    """None where the kernel doesn't tell."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "adjtimex"):
        return None
    buffer = ctypes.create_string_buffer(_SIZE)  # modes 0: only read
    if libc.adjtimex(buffer) < 0:
        return None
    return bool(_MAXERROR.unpack_from(buffer)[3] < HOPELESS_US)
