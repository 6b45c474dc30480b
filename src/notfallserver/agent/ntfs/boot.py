"""The boot sector of an NTFS volume: sizes, and where the file table begins. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Callable

Read = Callable[[int, int], bytes]
"""Offset and length in bytes from the volume's start."""

BOOT_SECTOR = 512
"""So many bytes of the volume's start are looked at, whatever its sectors are."""
_NAME = b"NTFS    "
_SECTORS = (512, 1024, 2048, 4096)
_MOST_CLUSTER = 2 << 20
_RECORDS = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
_MOST_CLUSTERS = 1 << 40


class Unreadable(Exception):
    """The volume is no NTFS, or not as NTFS ought to be; the text says what is wrong."""


@dataclass(frozen=True)
class Shape:
    """What the boot sector tells. Sizes are in bytes; clusters are counted from 0."""

    sector: int
    cluster: int
    clusters: int  # whole ones; what is behind them is outside of the bitmap
    table: int  # first cluster of the file table ($MFT)
    record: int  # size of a record of the file table
    serial: int  # 64 bits

    @property
    def uuid(self) -> str:
        """As blkid names the volume."""
        return f"{self.serial:016X}"

    @property
    def covered(self) -> int:
        """Bytes from the volume's start that the bitmap tells of."""
        return self.clusters * self.cluster


def read_shape(boot: bytes, size: int) -> Shape:
    """From the first sector of a volume of ``size`` bytes."""
    if len(boot) < BOOT_SECTOR or boot[3:11] != _NAME or boot[510:512] != b"\x55\xaa":
        raise Unreadable("no boot sector of NTFS")
    sector, packed = struct.unpack_from("<HB", boot, 11)
    sectors, table = struct.unpack_from("<QQ", boot, 40)
    if sector not in _SECTORS:
        raise Unreadable(f"sectors of {sector} bytes")
    cluster = sector * _factor(packed)
    if not cluster or cluster > _MOST_CLUSTER:
        raise Unreadable(f"clusters of {packed:#x} sectors")
    if sectors * sector > size:
        raise Unreadable("it is larger than its partition")
    clusters = sectors * sector // cluster
    if not 0 < clusters < _MOST_CLUSTERS or not 0 < table < clusters:
        raise Unreadable("the file table lies outside")
    (told,) = struct.unpack_from("<b", boot, 64)
    record = told * cluster if told > 0 else 1 << -told if -told < 32 else 0
    if record not in _RECORDS:
        raise Unreadable(f"records of {record} bytes")
    (serial,) = struct.unpack_from("<Q", boot, 72)
    return Shape(sector, cluster, clusters, table, record, serial)


def _factor(packed: int) -> int:
    """Sectors per cluster: a power of two, or above 0x80 its negated exponent; 0 if neither."""
    if packed > 0x80:
        exponent = 256 - packed
        return 1 << exponent if exponent <= 21 else 0
    return packed if packed and not packed & (packed - 1) else 0
