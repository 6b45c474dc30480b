"""A tape drive as the kernel's ``st`` driver shows it: records of 256 KiB, no automatic rewind.

Numbers of the operations are those of ``<sys/mtio.h>``; how the end of the medium is told, is in
the kernel's Documentation/scsi/st.rst: a write fails once with ENOSPC, the next one is let through.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import Protocol

from notfallserver.wire.errors import NotfallError

RECORD = 256 << 10
"""Bytes; GNU tar calls that ``-b 512``."""
_MTIOCTOP = 0x40086D01
_FORWARD, _BACK, _MARK, _REWIND, _UNLOAD, _BLOCK_SIZE = 3, 4, 5, 6, 7, 20


class Drive(Protocol):
    """What a tape can do. Errors are OSError: ENOSPC is the end of the medium."""

    def write(self, record: bytes) -> None: ...

    def read(self) -> bytes:
        """The next record; empty at a file mark, or at the end of what was written."""
        ...

    def rewind(self) -> None: ...

    def back(self, records: int) -> None: ...

    def forward(self, records: int) -> None: ...

    def mark(self) -> None:
        """Write a file mark; what was written is on the tape when this returns."""
        ...

    def unload(self) -> None: ...

    def close(self) -> None: ...


class TapeDrive:
    """The device; ``write``: open it for writing."""

    def __init__(self, path: Path, write: bool) -> None:
        try:
            self._handle = os.open(path, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC)
        except OSError as error:
            raise drive_error(path, error) from None
        try:
            self._order(_BLOCK_SIZE, 0)  # records are as long as they are written
        except OSError as error:
            os.close(self._handle)
            raise drive_error(path, error) from None

    def _order(self, operation: int, count: int) -> None:
        fcntl.ioctl(self._handle, _MTIOCTOP, struct.pack("=hxxi", operation, count))

    def write(self, record: bytes) -> None:
        written = os.write(self._handle, record)
        if written != len(record):
            raise OSError(errno.EIO, "a record was cut")

    def read(self) -> bytes:
        return os.read(self._handle, 4 * RECORD)

    def rewind(self) -> None:
        self._order(_REWIND, 1)

    def back(self, records: int) -> None:
        self._order(_BACK, records)

    def forward(self, records: int) -> None:
        self._order(_FORWARD, records)

    def mark(self) -> None:
        self._order(_MARK, 1)

    def unload(self) -> None:
        self._order(_UNLOAD, 1)

    def close(self) -> None:
        os.close(self._handle)


def drive_error(path: Path, error: OSError) -> NotfallError:
    if error.errno in (errno.ENOMEDIUM, errno.EIO, errno.EAGAIN):
        return NotfallError(
            "tape-empty-drive",
            f"There is no tape in {path}.",
            "Insert one and wait until the drive has loaded it.",
            retry=True,
            status=409,
        )
    if error.errno in (errno.EROFS, errno.EACCES):
        return NotfallError(
            "tape-write-protected",
            f"The tape in {path} is write-protected.",
            "Move its switch, or insert another one.",
            status=409,
        )
    if error.errno == errno.EBUSY:
        return NotfallError(
            "tape-busy", f"{path} is in use.", "Wait, or end what uses it.", retry=True, status=409
        )
    return NotfallError(
        "tape-no-drive",
        f"{path} can't be used as a tape drive: {error.strerror}.",
        "Name the device that does not rewind by itself, such as /dev/nst0.",
        status=409,
    )
