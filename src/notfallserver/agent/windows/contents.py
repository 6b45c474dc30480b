"""What a partition holds, by its first sector. Pure; names as blkid gives them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

BITLOCKER = "BitLocker"


@dataclass(frozen=True)
class Content:
    filesystem: str  # empty when not known
    uuid: str = ""


def content_of(boot: bytes) -> Content:
    """``boot``: at least the first 512 bytes."""
    name = boot[3:11]
    if name == b"-FVE-FS-":
        return Content(BITLOCKER)
    if name == b"NTFS    ":
        return Content("ntfs", f"{struct.unpack_from('<Q', boot, 72)[0]:016X}")
    if name == b"EXFAT   ":
        return Content("exfat", _short(boot, 100))
    if name == b"ReFS\0\0\0\0":
        return Content("ReFS", f"{struct.unpack_from('<Q', boot, 56)[0]:016X}")
    if boot[510:512] == b"\x55\xaa":
        if boot[82:90] == b"FAT32   ":
            return Content("vfat", _short(boot, 67))
        if boot[54:59] in (b"FAT12", b"FAT16"):
            return Content("vfat", _short(boot, 39))
    return Content("")


def _short(boot: bytes, at: int) -> str:
    low, high = struct.unpack_from("<HH", boot, at)
    return f"{high:04X}-{low:04X}"
