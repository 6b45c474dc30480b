"""Tells what an image file is and which other files it names, from its own bytes.

Never from its name, and before any other program opens it: a file that says of itself that its
content lies in ``/etc/shadow`` is refused here. Sizes and offsets are in bytes. Nothing is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from notfallserver.wire.errors import NotfallError

Read = Callable[[int, int], bytes]
"""Offset and length; fewer bytes where the file ends before."""

SECTOR = 512
MOST_TEXT = 1 << 20
"""A descriptor of VMware's is a text of some hundred lines."""
MOST_EXTENTS = 4096


class Format(StrEnum):
    """In QEMU's words."""

    RAW = "raw"
    QCOW2 = "qcow2"
    VHD = "vpc"
    VHDX = "vhdx"
    VMDK = "vmdk"


@dataclass(frozen=True)
class Extent:
    """A file with a part of the content, as the image names it; it has at least ``size`` bytes."""

    name: str
    size: int = 0


@dataclass(frozen=True)
class Described:
    """What a file says of itself. ``size``: of the disk, where the file alone does not tell it.

    ``backing``: the file that it is a difference to. ``data``: the file with the content of a qcow2
    image that has none itself.
    """

    format: Format
    size: int = 0
    backing: str = ""
    data: str = ""
    extents: tuple[Extent, ...] = ()


_FOREIGN = (
    (0, b"\x1f\x8b", "gzip"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"\xfd7zXZ\x00", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"BZh", "bzip2"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"Rar!", "rar"),
    (257, b"ustar", "tar or OVA"),
    (0, b"MSWIM\x00\x00\x00", "WIM"),
)
_OTHERS = (
    (0, b"QED\x00", "QED"),
    (0, b"OOOO", "old VMware"),
    (0x40, b"\x7f\x10\xda\xbe", "VDI"),
    (0, b"WithoutFreeSpace", "Parallels"),
    (0, b"WithouFreSpacExt", "Parallels"),
)


def describe(size: int, read: Read) -> Described:
    """Of a file of ``size`` bytes."""
    first = read(0, 4096)
    for at, magic, kind in _FOREIGN:
        if first[at:].startswith(magic):
            raise NotfallError(
                "image-packed",
                f"The file is packed ({kind}) and is no disk image yet.",
                "Unpack it and name the image files in it, one for each disk.",
            )
    for at, magic, kind in _OTHERS:
        if first[at:].startswith(magic):
            raise _unknown(f"it is a {kind} image")
    if first.startswith(b"QFI\xfb"):
        return _qcow2(first, read)
    if first.startswith(b"vhdxfile"):
        return _vhdx(read)
    if first.startswith((b"KDMV", b"COWD")):
        return _sparse_vmdk(first, read)
    if _is_descriptor(first):
        return _vmdk_text(read(0, MOST_TEXT))
    if first.startswith(b"conectix"):
        return _dynamic_vhd(first, size, read)
    footer = read(size - SECTOR, SECTOR) if size > SECTOR else b""
    if footer.startswith(b"conectix") and _is_sound(footer):
        return _fixed_vhd(footer, size)
    if size == 0 or size % SECTOR:
        raise NotfallError(
            "image-format-unknown",
            f"The file has {size} bytes and is no disk image that is known here: a raw image is "
            "a whole number of sectors long.",
            "Name a raw, VHD, VHDX, VMDK or qcow2 image, and copy it again if it is one.",
        )
    return Described(Format.RAW, size)


# -- qcow2 -------------------------------------------------------------------------------------


_DIRTY, _CORRUPT, _DATA_FILE = 1, 2, 4
_DATA_FILE_NAME = 0x44415441


def _qcow2(first: bytes, read: Read) -> Described:
    version = _big(first, 4, 4)
    if version not in (2, 3):
        raise _unknown(f"it is a qcow image of version {version}")
    if _big(first, 32, 4):
        raise _encrypted()
    features = _big(first, 72, 8) if version == 3 else 0
    if features & _CORRUPT:
        raise _damaged("it is marked as damaged")
    if features & _DIRTY:
        raise _not_closed()
    at, length = _big(first, 8, 8), _big(first, 16, 4)
    backing = _text(read(at, min(length, 1024))) if at and length else ""
    data = _data_file(_big(first, 100, 4), read) if features & _DATA_FILE else ""
    if features & _DATA_FILE and not data:
        raise _damaged("it does not name the file that holds its content")
    return Described(Format.QCOW2, backing=backing, data=data)


def _data_file(start: int, read: Read) -> str:
    """From the extensions that follow on the header."""
    told = read(start, 1 << 16)
    at = 0
    while at + 8 <= len(told):
        kind, length = _big(told, at, 4), _big(told, at + 4, 4)
        if kind == 0:
            break
        if kind == _DATA_FILE_NAME:
            return _text(told[at + 8 : at + 8 + min(length, 1024)])
        at += 8 + -(-length // 8) * 8
    return ""


# -- VHD ---------------------------------------------------------------------------------------


_FIXED, _DYNAMIC, _DIFFERENCING = 2, 3, 4


def _is_sound(footer: bytes) -> bool:
    told = _big(footer, 64, 4)
    found = sum(footer[:64]) + sum(footer[68:SECTOR])
    return told == ~found & 0xFFFFFFFF


def _fixed_vhd(footer: bytes, size: int) -> Described:
    if _big(footer, 60, 4) == _DIFFERENCING:
        raise _difference()
    # What comes before the footer is the disk, whatever the footer's geometry would make of it.
    disk = _big(footer, 48, 8)
    if disk == 0 or disk > size - SECTOR or disk % SECTOR:
        raise _cut_short(f"the disk has {disk} bytes, the file {size}")
    return Described(Format.RAW, disk)


def _dynamic_vhd(first: bytes, size: int, read: Read) -> Described:
    if _big(first, 60, 4) == _DIFFERENCING:
        raise _difference()
    if _big(first, 60, 4) != _DYNAMIC or not _is_sound(first[:SECTOR]):
        raise _damaged("its header is damaged")
    if read(size - SECTOR, SECTOR) != first[:SECTOR]:
        raise _cut_short("its last sector is missing, or it was not closed")
    return Described(Format.VHD, _big(first, 48, 8) if first[28:32] != b"vpc " else 0)


# -- VHDX --------------------------------------------------------------------------------------


_HEADERS = (64 << 10, 128 << 10)
_REGIONS = (192 << 10, 256 << 10)
_METADATA = bytes.fromhex("06a27c8b90479a4bb8fe575f050f886e")
_FILE_PARAMETERS = bytes.fromhex("3767a1ca36fa434db3b633f0aa44e76b")
_HAS_PARENT = 2


def _vhdx(read: Read) -> Described:
    headers = [one for one in (read(at, 80) for at in _HEADERS) if one.startswith(b"head")]
    if not headers:
        raise _damaged("it has no header")
    newest = max(headers, key=lambda one: _little(one, 8, 8))
    if any(newest[48:64]):
        raise _not_closed()
    if _vhdx_flags(read) & _HAS_PARENT:
        raise _difference()
    return Described(Format.VHDX)


def _vhdx_flags(read: Read) -> int:
    for at in _REGIONS:
        table = read(at, 64 << 10)
        if not table.startswith(b"regi"):
            continue
        for one in _entries(table, 16, _little(table, 8, 4)):
            if one[:16] == _METADATA:
                return _file_parameters(_little(one, 16, 8), read)
    raise _damaged("it does not say where its metadata are")


def _file_parameters(start: int, read: Read) -> int:
    table = read(start, 64 << 10)
    if table.startswith(b"metadata"):
        for one in _entries(table, 32, _little(table, 10, 2)):
            if one[:16] == _FILE_PARAMETERS:
                found = read(start + _little(one, 16, 4), 8)
                if len(found) == 8:
                    return _little(found, 4, 4)
    raise _damaged("its metadata are damaged")


def _entries(table: bytes, first: int, count: int) -> list[bytes]:
    return [table[at : at + 32] for at in range(first, first + 32 * min(count, 2047), 32)]


# -- VMDK --------------------------------------------------------------------------------------


_KINDS = frozenset(
    (
        *("monolithicsparse", "monolithicflat", "twogbmaxextentsparse", "twogbmaxextentflat"),
        *("vmfs", "vmfssparse", "sesparse", "streamoptimized"),
    )
)
_NO_PARENT = "ffffffff"
_PLAIN = ("FLAT", "VMFS")
_SPARSE = ("SPARSE", "VMFSSPARSE", "SESPARSE")


def _is_descriptor(first: bytes) -> bool:
    return first.lstrip()[:21].lower() == b"# disk descriptorfile"


def _sparse_vmdk(first: bytes, read: Read) -> Described:
    at, length = _little(first, 28, 8), _little(first, 36, 8)
    text = read(at * SECTOR, min(length * SECTOR, MOST_TEXT)) if at else b""
    if first.startswith(b"COWD") or not _is_descriptor(text):
        raise is_part("the small .vmdk file that lists the parts")
    if not _little(first, 12, 8):
        raise _damaged("it says that its disk is empty")
    told = _vmdk_text(text)
    # Its only extent is itself, under the name that it once had.
    return Described(Format.VMDK, backing=told.backing)


def _vmdk_text(content: bytes) -> Described:
    text = content.split(b"\0", 1)[0].decode("utf-8", "replace")
    told: dict[str, str] = {}
    extents: list[Extent] = []
    for line in text.splitlines():
        words = line.split(None, 3)
        if len(words) == 4 and words[0] in ("RW", "RDONLY", "NOACCESS"):
            extents.append(_extent(_number(words[1]), words[2], words[3]))
        elif "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            told[key.strip().lower()] = value.strip().strip('"')
    if len(extents) > MOST_EXTENTS:
        raise _unknown(f"it has {len(extents)} parts")
    if any(key.startswith("encryption.") for key in told):
        raise _encrypted()
    kind = told.get("createtype", "")
    if kind.lower() not in _KINDS:
        raise _unknown(f"it is a VMware disk of the kind '{kind[:40]}'")
    backing = ""
    if told.get("parentcid", _NO_PARENT).lower() != _NO_PARENT:
        backing = told.get("parentfilenamehint", "")
        if not backing:
            raise _damaged("it does not say what it is a difference to")
    return Described(Format.VMDK, backing=backing, extents=tuple(extents))


def _extent(sectors: int, kind: str, rest: str) -> Extent:
    """``rest``: the name in quotes, and the sector at which a flat one begins."""
    parts = rest.split('"')
    if len(parts) < 3 or kind not in (*_PLAIN, *_SPARSE):
        raise _unknown(f"it has a part of the kind '{kind[:40]}'")
    begin = _number(parts[2].strip() or "0")
    return Extent(parts[1], (begin + sectors) * SECTOR if kind in _PLAIN else 0)


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise _damaged("its list of parts is not understood")
    return int(text)


# -- words ---------------------------------------------------------------------------------------


def _big(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(data[at : at + length], "big")


def _little(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(data[at : at + length], "little")


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("utf-8", "surrogateescape")


def _unknown(what: str) -> NotfallError:
    return NotfallError(
        "image-format-unknown",
        f"The image can't be read: {what}.",
        "Make a raw, VHD, VHDX, VMDK or qcow2 image of it with the program that wrote it.",
    )


def _encrypted() -> NotfallError:
    return NotfallError(
        "image-encrypted",
        "The image file is encrypted.",
        "Export the disk without encryption from the program that wrote it.",
    )


def _not_closed() -> NotfallError:
    return NotfallError(
        "image-not-closed",
        "The image file was not closed: its machine still runs, or was cut off.",
        "Shut the machine down, or copy an image that is not in use.",
    )


def is_part(whole: str) -> NotfallError:
    return NotfallError(
        "image-is-part",
        "The file is only a part of a disk.",
        f"Name {whole}; the parts must lie beside it.",
    )


def _difference() -> NotfallError:
    return NotfallError(
        "image-is-difference",
        "The file holds only the difference to another image.",
        "Merge it there (delete the checkpoint), or export the machine as a whole.",
    )


def _damaged(what: str) -> NotfallError:
    return NotfallError(
        "image-damaged", f"The image file is damaged: {what}.", "Copy or export it again."
    )


def _cut_short(what: str) -> NotfallError:
    return NotfallError(
        "image-cut-short", f"The image file is cut short: {what}.", "Copy or export it again."
    )
