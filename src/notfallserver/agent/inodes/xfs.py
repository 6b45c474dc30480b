"""Regular files of an XFS filesystem (format 5), found by the B+trees of its allocation groups.

Left out is what changes without a ctime (quota and other metadata inodes, the realtime device),
what shares blocks with other files, and what carries a flag that is not known here. Unknown
features of the filesystem make it :class:`NotUnderstood`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import FrozenSet, Iterator, List, Tuple

from notfallserver.agent.disks.runs import Extent
from notfallserver.agent.inodes.base import Inode, Inodes, NotUnderstood, Read, fingerprint

_KNOWN_INCOMPATIBLE = 0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x40 | 0x80
"""Types, sparse chunks, own UUID, big times and counters, exchanged ranges, parent pointers."""
_KNOWN_READ_ONLY = 0x1 | 0x2 | 0x4 | 0x8
"""Trees of free inodes, reverse mapping, shared blocks, counters of inodes' blocks."""
_HARMLESS = 0x2 | 0x10 | 0x20 | 0x40 | 0x80 | 0x800 | 0x1000 | 0x2000
"""prealloc, sync, append, noatime, nodump, hints of size, nodefrag: not realtime or immutable."""
_COW_SIZE, _BIG_TIME, _BIG_COUNT = 0x4, 0x8, 0x10
_HARMLESS_2 = _COW_SIZE | _BIG_TIME | _BIG_COUNT
_LITERAL = 176
_EXTENTS, _BTREE = 2, 3
_EPOCH = (1 << 31) * 10**9  # big times count from 1901
_CHUNK = 64
_DEEPEST = 10
_LONG, _SHORT = 72, 56  # heads of tree blocks
_INODE = struct.Struct(">2sHBB10xI4x8s16x8s20xI2xB7xH28xQ")
"""magic, mode, version, format, links, big count, ctime, count, fork's end, flags, flags 2."""


@dataclass(frozen=True)
class Xfs:
    """The superblock's figures; ``group`` in blocks."""

    uuid: bytes
    meta_uuid: bytes
    block: int
    sector: int
    inode: int
    group: int
    groups: int
    group_bits: int
    inode_bits: int
    size: int
    sparse: bool
    special: FrozenSet[int]

    def place(self, block: int) -> int:
        """Byte of a filesystem's block, whose number is made of group and block."""
        group, within = block >> self.group_bits, block & ((1 << self.group_bits) - 1)
        if group >= self.groups or within >= self.group:
            raise NotUnderstood("a block outside of the filesystem")
        return (group * self.group + within) * self.block


def read_super(read: Read) -> Xfs:
    """Raises :class:`NotUnderstood`."""
    raw = read(0, 512)
    magic, block, blocks, realtime = struct.unpack_from(">4sIQQ", raw)
    group, groups = struct.unpack_from(">II", raw, 84)
    version, sector, inode = struct.unpack_from(">HHH", raw, 100)
    inode_bits, group_bits = struct.unpack_from("2B", raw, 123)
    _, read_only, incompatible = struct.unpack_from(">III", raw, 208)
    if magic != b"XFSB" or version & 0xF != 5 or realtime:
        raise NotUnderstood("no XFS of format 5, or with a realtime device")
    if incompatible & ~_KNOWN_INCOMPATIBLE or read_only & ~_KNOWN_READ_ONLY:
        raise NotUnderstood("unknown features")
    if not 512 <= block <= 65536 or inode < 256 or not groups or not group:
        raise NotUnderstood("inodes of another form")
    special = {
        *struct.unpack_from(">3Q", raw, 56),
        *struct.unpack_from(">2Q", raw, 160),
        *struct.unpack_from(">Q", raw, 232),
    }
    return Xfs(
        raw[32:48],
        raw[248:264] if incompatible & 0x4 else raw[32:48],
        block,
        sector,
        inode,
        group,
        groups,
        group_bits,
        inode_bits,
        blocks * block,
        bool(incompatible & 0x2),
        frozenset(special),
    )


def inodes(read: Read, told: Xfs) -> Inodes:
    """All files that can be told about."""
    for group in range(told.groups):
        for first, present in _chunks(read, told, group):
            block = first >> told.inode_bits
            start = (group * told.group + block) * told.block
            start += (first & ((1 << told.inode_bits) - 1)) * told.inode
            raw = read(start, _CHUNK * told.inode)
            number = group << (told.group_bits + told.inode_bits) | first
            yield from _chunk(read, told, raw, number, present)


def _chunks(read: Read, told: Xfs, group: int) -> Iterator[Tuple[int, int]]:
    """Of each chunk of 64 inodes: the first one's number in the group, a mask of those in use."""
    head = read(group * told.group * told.block + 2 * told.sector, 512)
    if head[:4] != b"XAGI":
        raise NotUnderstood("an allocation group without head")
    root, level = struct.unpack_from(">II", head, 20)
    yield from _below(read, told, group, root, level)


def _below(read: Read, told: Xfs, group: int, block: int, levels: int) -> Iterator[Tuple[int, int]]:
    if not 0 < levels <= _DEEPEST or block >= told.group:
        raise NotUnderstood("a broken tree of inodes")
    node = read((group * told.group + block) * told.block, told.block)
    magic, level, count = struct.unpack_from(">4sHH", node)
    most = (told.block - _SHORT) // (8 if level else 16)
    if magic != b"IAB3" or level != levels - 1 or count > most:
        raise NotUnderstood("a broken tree of inodes")
    if level:
        for below in struct.unpack_from(f">{count}I", node, _SHORT + 4 * most):
            yield from _below(read, told, group, below, levels - 1)
        return
    for first, hole, free in struct.iter_unpack(">IH2xQ", node[_SHORT : _SHORT + 16 * count]):
        present = ~free & (1 << _CHUNK) - 1
        for part in range(16 if told.sparse else 0):
            if hole >> part & 1:
                present &= ~(0xF << 4 * part)
        yield first, present


def _chunk(read: Read, told: Xfs, chunk: bytes, number: int, present: int) -> Inodes:
    for place in range(_CHUNK):
        if not present >> place & 1:
            continue
        raw = chunk[place * told.inode : (place + 1) * told.inode]
        (magic, mode, version, form, links, many, ctime, few, fork, flags, more) = (
            _INODE.unpack_from(raw)
        )
        one = number + place
        if magic != b"IN" or version != 3 or mode & 0xF000 != 0x8000 or not links:
            continue
        if struct.unpack_from(">Q", raw, 152)[0] != one or raw[160:176] != told.meta_uuid:
            continue
        if one in told.special or flags & ~_HARMLESS or more & ~_HARMLESS_2:
            continue
        count = int.from_bytes(many, "big") if more & _BIG_COUNT else few
        end = _LITERAL + fork * 8 if fork else told.inode
        nodes: List[bytes] = []
        try:
            extents = _fork(read, told, form, raw[_LITERAL:end], count, nodes)
        except NotUnderstood:
            continue
        # Without time of access, counter of flushes, place in the list of unlinked, checksum, LSN.
        print_ = fingerprint(
            raw[2:30], raw[40:96], raw[104:112], raw[120:128], raw[144:end], *nodes
        )
        yield Inode(one, print_, _time(ctime, more), extents)


def _time(raw: bytes, flags: int) -> int:
    if flags & _BIG_TIME:
        return int.from_bytes(raw, "big") - _EPOCH
    seconds, rest = struct.unpack(">iI", raw)
    return int(seconds) * 10**9 + int(rest)


def _fork(
    read: Read, told: Xfs, form: int, fork: bytes, count: int, nodes: List[bytes]
) -> List[Extent]:
    if form == _EXTENTS:
        if count * 16 > len(fork):
            raise NotUnderstood("more extents than room")
        return _records(told, fork[: count * 16])
    if form != _BTREE:
        raise NotUnderstood("no extents")
    level, entries = struct.unpack_from(">HH", fork)
    most = (len(fork) - 4) // 16
    if not 0 < level <= _DEEPEST or entries > most:
        raise NotUnderstood("a broken tree of extents")
    found: List[Extent] = []
    for block in struct.unpack_from(f">{entries}Q", fork, 4 + 8 * most):
        found += _tree(read, told, block, level, nodes)
    return found


def _tree(read: Read, told: Xfs, block: int, levels: int, nodes: List[bytes]) -> List[Extent]:
    node = read(told.place(block), told.block)
    magic, level, count = struct.unpack_from(">4sHH", node)
    most = (told.block - _LONG) // 16
    if magic != b"BMA3" or level != levels - 1 or count > most:
        raise NotUnderstood("a broken tree of extents")
    if not level:
        nodes.append(node[_LONG : _LONG + 16 * count])
        return _records(told, nodes[-1])
    found: List[Extent] = []
    for below in struct.unpack_from(f">{count}Q", node, _LONG + 8 * most):
        found += _tree(read, told, below, levels - 1, nodes)
    return found


def _records(told: Xfs, content: bytes) -> List[Extent]:
    """The written ones of packed records: flag, 54 bits place, 52 bits block, 21 bits length."""
    return [
        (told.place((high & 0x1FF) << 43 | low >> 21), (low & 0x1FFFFF) * told.block)
        for high, low in struct.iter_unpack(">QQ", content)
        if not high >> 63
    ]
