"""Hives for tests: real ones, and made ones whose content shows what was written where."""

from __future__ import annotations

import lzma
import shutil
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import hivex

from notfallserver.guest.windows.base_block import BIN, SECTOR, SIZE, checksum
from notfallserver.guest.windows.hive import Hive
from notfallserver.guest.windows.marvin import marvin32
from notfallserver.guest.windows.registry import DeleteKey, SetValue, Value

DATA = Path(__file__).parents[2] / "tests/data/windows-hives"

Pages = Sequence[tuple[int, bytes]]


def unpack(name: str, folder: Path) -> Path:
    """One of the real files."""
    target = folder / name
    with lzma.open(DATA / f"{name}.xz") as packed, target.open("wb") as file:
        shutil.copyfileobj(packed, file)
    return target


def unpack_dirty(folder: Path, name: str = "SYSTEM_B") -> Path:
    """The hive of Windows 10 with its two logs."""
    for end in ("", ".LOG1", ".LOG2"):
        unpack(f"SYSTEM_B{end}", folder).rename(folder / f"{name}{end}")
    return folder / name


def small_hive(path: Path, content: Mapping[str, Mapping[str, Value]]) -> Path:
    """A hive that holds ``content`` (key -> name -> value) and nothing else."""
    unpack("BCD", path.parent).rename(path)
    with Hive(path, writable=True) as hive:
        for old in hive.below(""):
            hive.apply(DeleteKey("", old.name, ""))
        for key, values in content.items():
            for name, value in values.items():
                hive.apply(SetValue("", key, name, value, ""))
        hive.commit()
    return path


def count(path: Path) -> int:
    """Keys and values."""
    hive = hivex.Hivex(str(path))
    found, waiting = 0, [hive.root()]
    while waiting:
        node = waiting.pop()
        found += 1 + len(hive.node_values(node))
        waiting += hive.node_children(node)
    return found


def base_block(
    first: int, second: int, size: int, written: int = 0, kind: int = 0, cluster: int = 1
) -> bytes:
    block = bytearray(SIZE)
    struct.pack_into("<4sIIQIIII", block, 0, b"regf", first, second, written, 1, 5, kind, 1)
    struct.pack_into("<III", block, 36, 32, size, cluster)
    struct.pack_into("<I", block, 508, checksum(bytes(block)))
    return bytes(block)


def one_bin(place: int, fill: int, written: int = 0) -> bytes:
    head = struct.pack("<4sIIQQI", b"hbin", place, BIN, 0, written, 0)
    return head[:32] + bytes([fill]) * (BIN - 32)


def made_hive(fills: Sequence[int], first: int, second: int, written: int = 0) -> bytes:
    """One bin for each of ``fills``."""
    bins = [one_bin(at * BIN, fill, 0 if at else written) for at, fill in enumerate(fills)]
    return base_block(first, second, len(fills) * BIN, written) + b"".join(bins)


def entry(sequence: int, size: int, pages: Pages, flags: int = 0) -> bytes:
    body = b"".join(struct.pack("<II", at, len(page)) for at, page in pages)
    body += b"".join(page for _, page in pages)
    length = -(-(40 + len(body)) // SECTOR) * SECTOR
    body = body.ljust(length - 40, b"\0")
    head = struct.pack("<4sIIIII", b"HvLE", length, flags, sequence, size, len(pages))
    head += struct.pack("<Q", marvin32(body))
    return head + struct.pack("<Q", marvin32(head)) + body


def entry_log(first: int, size: int, entries: Sequence[bytes], behind: bytes = b"") -> bytes:
    """``behind`` is what an older round left."""
    return base_block(first, first, size, kind=6)[:SECTOR] + b"".join(entries) + behind


def page_log(
    first: int, second: int, size: int, pages: Pages, written: int, cluster: int = 1
) -> bytes:
    """Of pages of 512 bytes, in order."""
    bits = bytearray(size // 512 // 8)
    for at, _ in pages:
        bits[at // 512 // 8] |= 1 << at // 512 % 8
    sector = cluster * SECTOR
    vector = b"DIRT" + bits
    vector = vector.ljust(-(-len(vector) // sector) * sector, b"\xff")
    head = base_block(first, second, size, written, kind=1, cluster=cluster)[:sector]
    return head + vector + b"".join(page for _, page in pages)


def in_pages(place: int, data: bytes) -> list[tuple[int, bytes]]:
    return [(place + at, data[at : at + 512]) for at in range(0, len(data), 512)]
