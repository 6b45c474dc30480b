"""What Windows answers to control codes of disks and volumes. Pure: bytes in, structures out.

All structures are those of 64-bit Windows (winioctl.h, ntddstor.h); they are the same in a 32-bit
process. Sizes and places are in bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import List, Tuple

DISK_GET_DRIVE_LAYOUT_EX = 0x70050
DISK_GET_LENGTH_INFO = 0x7405C
DISK_GET_DRIVE_GEOMETRY_EX = 0x700A0
STORAGE_GET_DEVICE_NUMBER = 0x2D1080
STORAGE_QUERY_PROPERTY = 0x2D1400
SCSI_GET_ADDRESS = 0x41018
DISK_PERFORMANCE = 0x70020
VOLUME_GET_VOLUME_DISK_EXTENTS = 0x560000
GET_VOLUME_BITMAP = 0x9006F
GET_NTFS_VOLUME_DATA = 0x90064
ALLOW_EXTENDED_DASD_IO = 0x90083

DEVICE_PROPERTY = struct.pack("<LLL", 0, 0, 0)
"""STORAGE_PROPERTY_QUERY for the device's descriptor."""

BUS_NAMES = {
    1: "SCSI",
    2: "ATAPI",
    3: "ATA",
    4: "1394",
    6: "Fibre Channel",
    7: "USB",
    8: "RAID",
    9: "iSCSI",
    10: "SAS",
    11: "SATA",
    12: "SD",
    13: "MMC",
    14: "virtual",
    15: "file-backed virtual",
    16: "Storage Spaces",
    17: "NVMe",
    18: "SCM",
    19: "UFS",
}
USB, SPACES, FILE_BACKED = 7, 16, 15
_DISK = 7
"""FILE_DEVICE_DISK"""


class BadAnswer(Exception):
    """An answer is shorter than its structure, or contradicts itself."""


def unpack(form: str, answer: bytes, at: int = 0) -> Tuple[int, ...]:
    """As :func:`struct.unpack_from`, little-endian; what is cut off is a :class:`BadAnswer`."""
    try:
        return struct.unpack_from("<" + form, answer, at)
    except struct.error as error:
        raise BadAnswer(f"an answer of {len(answer)} bytes is too short: {error}") from None


@dataclass(frozen=True)
class Geometry:
    sector: int  # logical
    size: int
    removable: bool


def read_geometry(answer: bytes) -> Geometry:
    """DISK_GEOMETRY_EX."""
    media, sector = unpack("8xL8xL", answer)
    (size,) = unpack("q", answer, 24)
    if sector < 512 or sector & (sector - 1) or size < 0:
        raise BadAnswer(f"a disk of {size} bytes with sectors of {sector}")
    return Geometry(sector, size, media == 11)


def read_length(answer: bytes) -> int:
    """GET_LENGTH_INFORMATION."""
    (size,) = unpack("q", answer)
    if size < 0:
        raise BadAnswer("a negative length")
    return size


@dataclass(frozen=True)
class Performance:
    """What a disk has counted, times in 100 ns; only differences mean anything."""

    idle: int  # in which it had nothing to do
    passed: int
    queued: int  # requests that wait or are under way just now


def read_performance(answer: bytes) -> Performance:
    """DISK_PERFORMANCE. Whoever asks has it counted from then on."""
    idle, _, _, queued, _, passed = unpack("q4Lq", answer, 32)
    return Performance(idle, passed, queued)


@dataclass(frozen=True)
class DeviceNumber:
    disk: int
    partition: int  # as Windows counts; 0 for the whole disk


def read_device_number(answer: bytes) -> DeviceNumber:
    """STORAGE_DEVICE_NUMBER of what lies on a single disk."""
    kind, disk, partition = unpack("LLL", answer)
    if kind != _DISK:
        raise BadAnswer(f"a device of kind {kind} is no disk")
    return DeviceNumber(disk, 0 if partition == 0xFFFFFFFF else partition)


@dataclass(frozen=True)
class Descriptor:
    """STORAGE_DEVICE_DESCRIPTOR: how the disk calls itself."""

    model: str
    serial: str
    bus: int
    removable: bool


def read_descriptor(answer: bytes) -> Descriptor:
    _, size = unpack("LL", answer)
    (removable,) = unpack("B", answer, 10)
    vendor, product, _revision, serial, bus = unpack("LLLLL", answer, 12)
    whole = answer[: max(size, 36)]
    names = [_text(whole, vendor), _text(whole, product)]
    return Descriptor(
        " ".join(one for one in names if one), _text(whole, serial), bus, bool(removable)
    )


def _text(answer: bytes, at: int) -> str:
    """ASCII up to a zero; 0 and -1 say that there is none."""
    if not 36 <= at < len(answer):
        return ""
    text = answer[at:].split(b"\0", 1)[0].decode("ascii", "replace")
    return "".join(one if one.isprintable() else " " for one in text).strip()


@dataclass(frozen=True)
class DiskExtent:
    """Where (a part of) a volume lies."""

    disk: int
    start: int
    length: int


def read_extents(answer: bytes) -> List[DiskExtent]:
    """VOLUME_DISK_EXTENTS; more than one where a volume is spanned, striped or mirrored."""
    (count,) = unpack("L", answer)
    found = []
    for number in range(count):
        disk, start, length = unpack("L4xqq", answer, 8 + 24 * number)
        if start < 0 or length < 0:
            raise BadAnswer("a volume lies nowhere")
        found.append(DiskExtent(disk, start, length))
    return found


@dataclass(frozen=True)
class BitmapPart:
    """VOLUME_BITMAP_BUFFER: a part of a volume's bitmap, from cluster ``first`` on."""

    first: int
    clusters: int  # from ``first`` to the volume's end
    bits: bytes


def read_bitmap(answer: bytes) -> BitmapPart:
    first, clusters = unpack("qq", answer)
    if first < 0 or clusters < 0 or first & 7:
        raise BadAnswer("a bitmap begins nowhere")
    return BitmapPart(first, clusters, answer[16:])


@dataclass(frozen=True)
class NtfsData:
    """NTFS_VOLUME_DATA_BUFFER."""

    serial: int
    sectors: int
    clusters: int
    free: int
    sector: int
    cluster: int
    record: int
    table: int  # first cluster of $MFT


def read_ntfs_data(answer: bytes) -> NtfsData:
    serial, sectors, clusters, free = unpack("Qqqq", answer)
    sector, cluster, record = unpack("LLL", answer, 40)
    (table,) = unpack("q", answer, 64)
    if min(sectors, clusters, free, table) < 0 or not sector or not cluster:
        raise BadAnswer("a volume of no size")
    return NtfsData(serial, sectors, clusters, free, sector, cluster, record, table)


def read_port(answer: bytes) -> int:
    """The port number of SCSI_ADDRESS: Windows counts its storage adapters by it."""
    size, port = unpack("LB", answer)
    if size < 8:
        raise BadAnswer("an address of no device")
    return port
