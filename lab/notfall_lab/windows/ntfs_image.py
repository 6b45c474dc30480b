"""An NTFS volume made by hand, with what real tools hardly make: pieces of $MFT and $Bitmap.

Only what a reader looks at is there. Content is kept by cluster, so a large volume costs nothing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Sequence, Tuple

CLUSTER = 4096
RECORD = 1024
SERIAL = 0x1122334455667788
Span = Tuple[int, Optional[int]]


def packed_runs(spans: Sequence[Span]) -> bytes:
    found, last = b"", 0
    for count, first in spans:
        if first is None:
            found += bytes([4]) + count.to_bytes(4, "little")
            continue
        found += bytes([0x44]) + count.to_bytes(4, "little")
        found += (first - last).to_bytes(4, "little", signed=True)
        last = first
    return found + b"\0"


def padded(content: bytes, to: int = 8) -> bytes:
    return content + bytes(-len(content) % to)


def resident(kind: int, value: bytes, name: str = "", number: int = 0) -> bytes:
    letters = name.encode("utf-16-le")
    value_at = len(padded(bytes(24) + letters))
    body = padded(padded(bytes(24) + letters) + value)
    head = struct.pack("<LLBBHHH", kind, len(body), 0, len(name), 24, 0, number)
    head += struct.pack("<LHH", len(value), value_at, 0)
    return head + letters + body[24 + len(letters) :]


def outside(
    kind: int,
    spans: Sequence[Span],
    size: int,
    name: str = "",
    number: int = 0,
    lowest: int = 0,
    flags: int = 0,
) -> bytes:
    letters = name.encode("utf-16-le")
    runs_at = len(padded(bytes(64) + letters))
    body = padded(padded(bytes(64) + letters) + packed_runs(spans))
    count = sum(each for each, _ in spans)
    head = struct.pack("<LLBBHHH", kind, len(body), 1, len(name), 64, flags, number)
    highest = (lowest + count - 1) & ((1 << 64) - 1)
    head += struct.pack("<QQHHL", lowest, highest, runs_at, 0, 0)
    head += struct.pack("<QQQ", count * CLUSTER, size, size)
    return head + letters + body[64 + len(letters) :]


def listed(
    kind: int, record: int, number: int = 0, lowest: int = 0, name: str = "", sequence: int = 1
) -> bytes:
    letters = name.encode("utf-16-le")
    length = len(padded(bytes(26) + letters))
    head = struct.pack(
        "<LHBBQQH", kind, length, len(name), 26, lowest, record | sequence << 48, number
    )
    return padded(head + letters)


def with_fix_ups(content: bytes, place: int) -> bytes:
    """``content`` as it is on the disk; the fix-ups lie at ``place``, in its free bytes."""
    made = bytearray(content)
    strides = len(made) // 512
    struct.pack_into("<HH", made, 4, place, strides + 1)
    struct.pack_into("<H", made, place, 0x0A0B)
    for number in range(1, strides + 1):
        at = place + 2 * number
        made[at : at + 2] = made[number * 512 - 2 : number * 512]
        struct.pack_into("<H", made, number * 512 - 2, 0x0A0B)
    return bytes(made)


def record(
    attributes: Sequence[bytes], base: int = 0, flags: int = 1, links: int = 1, sequence: int = 1
) -> bytes:
    body = b"".join(attributes) + b"\xff\xff\xff\xff\0\0\0\0"
    reference = base | 1 << 48 if base else 0
    head = struct.pack(
        "<4sHHQHHHHLLQ",
        b"FILE",
        0,
        0,
        0,
        sequence,
        links,
        64,
        flags,
        64 + len(body),
        RECORD,
        reference,
    )
    return with_fix_ups((head.ljust(64, b"\0") + body).ljust(RECORD, b"\0"), 48)


def index_entry(name: str, number: int, sequence: int = 1) -> bytes:
    letters = name.encode("utf-16-le")
    key = bytes(64) + bytes([len(name), 3]) + letters
    size = len(padded(bytes(16) + key))
    head = struct.pack("<QHHHH", number | sequence << 48, size, len(key), 0, 0)
    return padded(head + key)


LAST_ENTRY = struct.pack("<QHHHH", 0, 16, 0, 2, 0)


def index_root(entries: Sequence[bytes], large: bool = False) -> bytes:
    body = b"".join(entries) + LAST_ENTRY
    head = struct.pack("<LLLL", 0x30, 1, CLUSTER, 1)
    return head + struct.pack("<LLLL", 16, 16 + len(body), 16 + len(body), int(large)) + body


def index_block(entries: Sequence[bytes]) -> bytes:
    body = b"".join(entries) + LAST_ENTRY
    head = struct.pack("<4sHHQQ", b"INDX", 0, 0, 0, 0)
    head += struct.pack("<LLLL", 40, 40 + len(body), CLUSTER - 24, 0)
    return with_fix_ups((head.ljust(64, b"\0") + body).ljust(CLUSTER, b"\0"), 40)


def standard_information(flags: int) -> bytes:
    return bytes(32) + struct.pack("<L", flags) + bytes(12)


@dataclass
class Image:
    """``table`` is where the file table lies; records are put there when it is read."""

    clusters: int
    table: Sequence[Span]
    records: Dict[int, bytes] = field(default_factory=dict)
    content: Dict[int, bytes] = field(default_factory=dict)  # by cluster

    @property
    def size(self) -> int:
        return self.clusters * CLUSTER + 512

    def boot(self) -> bytes:
        head = bytearray(512)
        head[3:11] = b"NTFS    "
        struct.pack_into("<HB", head, 11, 512, CLUSTER // 512)
        struct.pack_into("<QQQ", head, 40, self.clusters * (CLUSTER // 512), self.table[0][1], 2)
        struct.pack_into("<bxxxb", head, 64, -10, 1)
        struct.pack_into("<Q", head, 72, SERIAL)
        head[510:] = b"\x55\xaa"
        return bytes(head)

    def put(self, spans: Sequence[Span], content: bytes) -> None:
        """Where these clusters are, in order."""
        at = 0
        for count, first in spans:
            assert first is not None
            for number in range(count):
                self.content[first + number] = content[at : at + CLUSTER].ljust(CLUSTER, b"\0")
                at += CLUSTER

    def finish(self) -> Image:
        """Write boot sector and file table."""
        per = CLUSTER // RECORD
        count = sum(each for each, _ in self.table) * per
        empty = record([], flags=0)
        table = b"".join(self.records.get(number, empty) for number in range(count))
        self.put(self.table, table)
        self.content[0] = self.boot().ljust(CLUSTER, b"\0")
        return self

    def read(self, at: int, length: int) -> bytes:
        found = b""
        first, last = at // CLUSTER, -(-(at + length) // CLUSTER)
        for number in range(first, last):
            found += self.content.get(number, bytes(CLUSTER))
        return found[at - first * CLUSTER :][: min(length, self.size - at)]


def bits_of(used: Sequence[int], clusters: int) -> bytes:
    """A bitmap whose padding says "in use", as Windows makes it."""
    made = bytearray(-(-clusters // 64) * 8)
    for one in (*used, *range(clusters, len(made) * 8)):
        made[one // 8] |= 1 << one % 8
    return bytes(made)


def runs_of_bits(used: List[int], clusters: int, least: int) -> List[Tuple[int, int]]:
    """What is free, counted one by one."""
    marks, found, begin = set(used), [], 0
    for at in [*sorted(marks), clusters]:
        if at - begin >= least:
            found.append((begin, at - begin))
        begin = at + 1
    return found
