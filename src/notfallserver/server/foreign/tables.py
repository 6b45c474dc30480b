"""What lies on a disk, from its own bytes: partition table, boot code, kinds of file systems. Pure.

Only what is needed to describe a machine; contents are looked at in the appliance. Sizes and
starts are in bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import LIST_LIMIT, Partition

Read = Callable[[int, int], bytes]

ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"
_MBR_ESP = "0xef"
_PROTECTIVE = 0xEE
_EXTENDED = (0x05, 0x0F, 0x85)
_MOST_LOGICAL = 64
_ENTRIES = 1 << 20


@dataclass(frozen=True)
class Layout:
    """One disk. ``table``: dos, gpt or empty; ``boot_code``: its first sector starts something."""

    size: int
    sector: int = 512
    table: str = ""
    partitions: tuple[Partition, ...] = ()
    boot_code: bool = False

    @property
    def empty(self) -> bool:
        """Nothing is known of what lies on it."""
        return not self.table and not self.partitions


def read_layout(size: int, read: Read) -> Layout:
    """``read``: offset and length; fewer bytes at the disk's end."""
    first = read(0, 512)
    signed = first[510:] == b"\x55\xaa"
    code = signed and any(first[:440])
    for sector in (512, 4096):
        slots = _gpt(size, sector, read)
        if slots is not None:
            return _whole(Layout(size, sector, "gpt", slots, code))
    whole = _filesystem(0, read)
    if signed and not whole and _is_mbr(first):
        slots = tuple(_named(one, read) for one in _mbr(first, read))
        return _whole(Layout(size, 512, "dos", slots[:LIST_LIMIT], code))
    alone = (Partition(0, 0, size, filesystem=whole),) if whole else ()
    return Layout(size, 512, "", alone, code)


def _whole(layout: Layout) -> Layout:
    for one in layout.partitions:
        if one.start + one.size > layout.size:
            raise NotfallError(
                "image-cut-short",
                f"The disk has {layout.size} bytes, but its partition {one.number} ends at "
                f"{one.start + one.size}.",
                "Copy or export it again.",
            )
    return layout


def firmware_of(layouts: tuple[Layout, ...]) -> str:
    """How the machine starts: ``uefi`` or ``bios``; what can do both starts by BIOS."""
    kinds = {part.kind.lower() for one in layouts for part in one.partitions}
    if not kinds & {ESP, _MBR_ESP}:
        return "bios"
    # The first sector of a GPT disk starts nothing by BIOS unless a loader has a place behind it.
    starts = any(
        one.boot_code
        and (one.table == "dos" or BIOS_BOOT in {part.kind.lower() for part in one.partitions})
        for one in layouts
    )
    return "bios" if starts else "uefi"


# -- GPT -----------------------------------------------------------------------------------------


def _gpt(size: int, sector: int, read: Read) -> tuple[Partition, ...] | None:
    """From the first table that is sound: the main one, or that at the disk's end."""
    for at in (sector, size - sector):
        header = read(at, 512)
        if not header.startswith(b"EFI PART"):
            continue
        length = int.from_bytes(header[12:16], "little")
        told = int.from_bytes(header[16:20], "little")
        plain = header[:16] + bytes(4) + header[20:length]
        if not 92 <= length <= 512 or zlib.crc32(plain) != told:
            continue
        start = int.from_bytes(header[72:80], "little") * sector
        count = int.from_bytes(header[80:84], "little")
        each = int.from_bytes(header[84:88], "little")
        if each < 128 or each % 8 or not 0 < count * each <= _ENTRIES:
            continue
        entries = read(start, count * each)
        if zlib.crc32(entries) != int.from_bytes(header[88:92], "little"):
            continue
        return tuple(_gpt_entries(entries, each, sector, read))[:LIST_LIMIT]
    return None


def _gpt_entries(entries: bytes, each: int, sector: int, read: Read) -> Iterator[Partition]:
    for at in range(0, len(entries), each):
        one = entries[at : at + 128]
        if not any(one[:16]):
            continue
        first = int.from_bytes(one[32:40], "little")
        last = int.from_bytes(one[40:48], "little")
        if last < first:
            continue
        start = first * sector
        yield Partition(
            number=at // each + 1,
            start=start,
            size=(last - first + 1) * sector,
            kind=str(UUID(bytes_le=one[:16])),
            filesystem=_filesystem(start, read),
            part_uuid=str(UUID(bytes_le=one[16:32])),
        )


# -- MBR -----------------------------------------------------------------------------------------


def _is_mbr(first: bytes) -> bool:
    """A boot sector of a file system ends as an MBR does, but has no such entries."""
    flags = {first[446 + 16 * slot] for slot in range(4)}
    return flags <= {0, 0x80} and any(first[446 + 16 * slot + 4] for slot in range(4))


@dataclass(frozen=True)
class _Slot:
    number: int
    kind: int
    start: int
    size: int
    part_uuid: str


def _mbr(first: bytes, read: Read) -> Iterator[_Slot]:
    disk = int.from_bytes(first[440:444], "little")
    for slot in range(4):
        kind, start, size = _entry(first, slot)
        if not kind or kind == _PROTECTIVE or not size:
            continue
        yield _Slot(slot + 1, kind, start, size, f"{disk:08x}-{slot + 1:02x}")
    for slot in range(4):
        kind, start, _ = _entry(first, slot)
        if kind in _EXTENDED:
            yield from _logical(start, disk, read)
            return


def _logical(base: int, disk: int, read: Read) -> Iterator[_Slot]:
    """A chain of tables, each with one partition and the place of the next table."""
    at = base
    for number in range(5, 5 + _MOST_LOGICAL):
        table = read(at, 512)
        if table[510:] != b"\x55\xaa":
            return
        kind, start, size = _entry(table, 0)
        if kind and size:
            yield _Slot(number, kind, at + start, size, f"{disk:08x}-{number:02x}")
        following, step, _ = _entry(table, 1)
        if following not in _EXTENDED or not step:
            return
        at = base + step


def _entry(table: bytes, slot: int) -> tuple[int, int, int]:
    one = table[446 + 16 * slot : 462 + 16 * slot]
    return (
        one[4],
        int.from_bytes(one[8:12], "little") * 512,
        int.from_bytes(one[12:16], "little") * 512,
    )


def _named(slot: _Slot, read: Read) -> Partition:
    return Partition(
        number=slot.number,
        start=slot.start,
        size=slot.size,
        kind=f"0x{slot.kind:x}",
        filesystem="" if slot.kind in _EXTENDED else _filesystem(slot.start, read),
        part_uuid=slot.part_uuid if not slot.part_uuid.startswith("00000000") else "",
    )


# -- file systems --------------------------------------------------------------------------------


_MAGICS = (
    (0, b"LUKS\xba\xbe", "crypto_LUKS"),
    (0, b"XFSB", "xfs"),
    (0x438, b"\x53\xef", "ext4"),
    (0x10040, b"_BHRfS_M", "btrfs"),
    (4086, b"SWAPSPACE2", "swap"),
    (4086, b"SWAP-SPACE", "swap"),
    (4096, b"\xfc\x4e\x2b\xa9", "linux_raid_member"),
    (0, b"\xfc\x4e\x2b\xa9", "linux_raid_member"),
    (3, b"NTFS    ", "ntfs"),
    (3, b"EXFAT   ", "exfat"),
    (3, b"-FVE-FS-", "BitLocker"),
    (82, b"FAT32   ", "vfat"),
    (54, b"FAT", "vfat"),
)


def _filesystem(start: int, read: Read) -> str:
    """In blkid's words, as far as a few bytes tell; empty: not known."""
    head = read(start, 8192)
    for at, magic, name in _MAGICS:
        found = head[at : at + len(magic)] if at < 8192 else read(start + at, len(magic))
        if found == magic:
            return name
    labels = (head[sector * 512 : sector * 512 + 8] for sector in range(4))
    return "LVM2_member" if b"LABELONE" in labels else ""
