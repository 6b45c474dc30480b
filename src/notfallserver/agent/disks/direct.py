"""Reading a disk past the page cache.

Only O_DIRECT shows what is on the disk: buffered reads of a block device return stale blocks of
a mounted filesystem. Offsets, lengths and buffers are multiples of the sector size.
"""

from __future__ import annotations

import mmap
import os
from typing import Optional

from notfallserver.agent.disks.base import Protected
from notfallserver.wire.errors import NotfallError

_ALIGN = 4096


class DirectDisk:
    """One disk, open for reading. Safe from several threads."""

    def __init__(self, disk: Protected) -> None:
        self.disk = disk
        self.size = disk.size
        try:
            self._handle = os.open(disk.path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        except OSError as error:
            raise NotfallError(
                "disk-open", f"The disk {disk.path} cannot be read ({error.strerror}).", "Check it."
            ) from None

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill ``view`` with what is at ``offset``."""
        done = 0
        while done < len(view):
            try:
                got = os.preadv(self._handle, [view[done:]], offset + done)
            except OSError as error:
                raise self._failed(offset + done, error.strerror) from None
            if got <= 0:
                raise self._failed(offset + done, "it ends too early")
            done += got

    def _failed(self, offset: int, why: Optional[str]) -> NotfallError:
        return NotfallError(
            "disk-read",
            f"The disk {self.disk.path} cannot be read at byte {offset} ({why}).",
            "Check the disk's health; a damaged disk should be replaced.",
        )

    def read(self, offset: int, length: int) -> bytes:
        """Some bytes from anywhere, for headers and tables."""
        start = offset // _ALIGN * _ALIGN
        end = min(-(-(offset + length) // _ALIGN) * _ALIGN, self.size)
        with mmap.mmap(-1, max(end - start, _ALIGN)) as buffer:
            with memoryview(buffer) as view, view[: end - start] as part:
                self.read_into(part, start)
            return buffer[offset - start : offset - start + length]

    def close(self) -> None:
        os.close(self._handle)
