"""Regular files of an ext4 filesystem, read from its inode tables.

Left out is what changes without a ctime (the journal, quota, orphan and attribute inodes, swap
is for the caller), has no extents, or carries a flag that is not known here. Unknown features of
the filesystem make it :class:`NotUnderstood`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import FrozenSet, Iterator, List, Tuple

from notfallserver.agent.disks.runs import Extent
from notfallserver.agent.inodes.base import Inode, Inodes, NotUnderstood, Read, fingerprint

_MAGIC, _TREE_MAGIC = 0xEF53, 0xF30A
_JOURNAL, _ORPHAN_FILE = 0x4, 0x1000  # compatible features
_64BIT = 0x80
_KNOWN_INCOMPATIBLE = 0x2 | 0x4 | 0x40 | _64BIT | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x30000
"""All but compression, journal devices, meta block groups, MMP and directory data."""
_KNOWN_READ_ONLY = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | 0x400 | 0x2000 | 0x18000
"""All but clusters (bigalloc), snapshots, replicas, read-only and shared blocks."""
_ERRORS = 0x2
_UNUSED_GROUP = 0x1
_FIRST = 11
_EXTENTS = 0x80000
_HARMLESS = 0x8 | 0x20 | 0x40 | 0x80 | 0x4000 | 0x8000 | 0x40000 | _EXTENTS | 0x20000000
"""sync, append, nodump, noatime, journalled data, notail, huge, extents, project: no others."""
_EXTRA = 28  # bytes behind the old inode that hold all times
_DEEPEST = 5
_PIECE = 1 << 20
_INODE = struct.Struct("<H2xI4xI10xH4xI4x60s")
"""mode, size, ctime, links, flags, and the root of the extents."""
_TREE = struct.Struct("<HH2xH4x")
_LEAF = struct.Struct("<4xHHI")
_NODE = struct.Struct("<4xIH2x")
_UNWRITTEN = 32768


@dataclass(frozen=True)
class Ext4:
    """The superblock's figures. Bytes."""

    uuid: bytes
    block: int
    size: int
    inode: int
    per_group: int
    groups: int
    table: int
    descriptor: int
    special: FrozenSet[int]


def read_super(read: Read) -> Ext4:
    """Raises :class:`NotUnderstood`."""
    raw = read(1024, 1024)

    def number(offset: int, form: str = "<I") -> int:
        return int(struct.unpack_from(form, raw, offset)[0])

    compatible, incompatible, read_only = (number(at) for at in (0x5C, 0x60, 0x64))
    if number(0x38, "<H") != _MAGIC:
        raise NotUnderstood("no ext4")
    if not compatible & _JOURNAL or number(0x3A, "<H") & _ERRORS:
        raise NotUnderstood("without journal, or with errors")
    if incompatible & ~_KNOWN_INCOMPATIBLE or read_only & ~_KNOWN_READ_ONLY:
        raise NotUnderstood("unknown features")
    block = 1024 << min(number(0x18), 6)
    inode, per_group, group = number(0x58, "<H"), number(0x28), number(0x20)
    if inode < 256 or inode > block or inode & (inode - 1):
        raise NotUnderstood("inodes of another form")
    first = number(0x14)
    blocks = number(0x4) | (number(0x150) << 32 if incompatible & _64BIT else 0)
    most = 8 * block  # as many as a bitmap of one block has bits
    groups = -(-(blocks - first) // group) if 0 < group <= most else 0
    if not 0 < per_group <= most or groups < 1 or number(0) != groups * per_group:
        raise NotUnderstood("figures that don't fit each other")
    special = {number(at) for at in (0x240, 0x244, 0x26C)}
    if compatible & _ORPHAN_FILE:
        special.add(number(0x280))
    return Ext4(
        raw[0x68:0x78],
        block,
        blocks * block,
        inode,
        per_group,
        groups,
        (first + 1) * block,
        number(0xFE, "<H") if incompatible & _64BIT else 32,
        frozenset(special),
    )


def inodes(read: Read, told: Ext4) -> Inodes:
    """All files that can be told about."""
    for start, count, number in _tables(read, told):
        at = 0
        while at < count:
            step = min(_PIECE // told.inode, count - at)
            raw = read(start + at * told.inode, step * told.inode)
            yield from _table(read, told, raw, number + at)
            at += step


def _tables(read: Read, told: Ext4) -> Iterator[Tuple[int, int, int]]:
    """Where each group's inodes begin, how many may be in use, the first one's number."""
    form = told.descriptor
    if form < 32:
        raise NotUnderstood("group descriptors of another form")
    raw = read(told.table, told.groups * form)
    for group in range(told.groups):
        one = raw[group * form : (group + 1) * form]
        block, flags, unused = struct.unpack_from("<8xI6xH8xH", one)
        if form >= 64:
            block |= struct.unpack_from("<I", one, 0x28)[0] << 32
            unused |= struct.unpack_from("<H", one, 0x32)[0] << 16
        if flags & _UNUSED_GROUP or unused > told.per_group:
            continue
        yield block * told.block, told.per_group - unused, group * told.per_group + 1


def _table(read: Read, told: Ext4, table: bytes, number: int) -> Inodes:
    for at in range(0, len(table), told.inode):
        mode, _, ctime, links, flags, root = _INODE.unpack_from(table, at)
        one = number + at // told.inode
        if mode & 0xF000 != 0x8000 or not links or one < _FIRST or one in told.special:
            continue
        if flags & ~_HARMLESS or not flags & _EXTENTS:
            continue
        raw = table[at : at + 160]
        extra, ctime_extra = struct.unpack_from("<H2xI", raw, 128)
        if extra < _EXTRA:
            continue
        seconds = ctime - (1 << 32) if ctime >> 31 else ctime
        seconds += (ctime_extra & 3) << 32
        nodes: List[bytes] = []
        try:
            extents = _walk(read, told, root, nodes, _DEEPEST)
        except NotUnderstood:
            continue
        # Without the times of access, and without checksums.
        print_ = fingerprint(raw[:8], raw[12:124], raw[132:140], raw[144:156], *nodes)
        yield Inode(one, print_, seconds * 10**9 + (ctime_extra >> 2), extents)


def _walk(read: Read, told: Ext4, node: bytes, nodes: List[bytes], most: int) -> List[Extent]:
    """The extents below a node; all nodes below it are added to ``nodes``."""
    magic, entries, depth = _TREE.unpack_from(node)
    if magic != _TREE_MAGIC or depth > most or 12 + entries * 12 > len(node):
        raise NotUnderstood("a broken tree of extents")
    content = node[12 : 12 + entries * 12]
    block = told.block
    if not depth:
        return [
            ((high << 32 | low) * block, length * block)
            for length, high, low in _LEAF.iter_unpack(content)
            if length <= _UNWRITTEN
        ]
    found: List[Extent] = []
    for low, high in _NODE.iter_unpack(content):
        start = (high << 32 | low) * block
        if start + block > told.size:
            raise NotUnderstood("a broken tree of extents")
        below = read(start, block)
        if _TREE.unpack_from(below)[2] != depth - 1:
            raise NotUnderstood("a broken tree of extents")
        nodes.append(below[: 12 + _TREE.unpack_from(below)[1] * 12])
        found += _walk(read, told, below, nodes, depth - 1)
    return found
