"""Which disks of a version hold nothing that another one does not hold, too: members of RAID 1.

Read from the superblocks in the images (version 1 of md's format, as in the kernel's
``include/uapi/linux/raid/md_p.h``); the copy is opened for reading only, and by nobody's kernel.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from notfallserver.guest.layout import SWAP, is_extended
from notfallserver.server.pool.version import Version
from notfallserver.wire.facts import Disk, Machine, Partition

_MAGIC = 0xA92B4EFC
_RECOVERING = 0x2
_ALL = (1 << 64) - 1
_LENGTH = 4096
_ROLES = 256
_BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"
_ESP = ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "0xef")


@dataclass(frozen=True)
class Member:
    """A sound member of a mirror; ``events`` counts what was written to it, ``role`` is its place.

    ``synced``: all members were the same. Else md fills the others from the first one.
    """

    array: bytes
    events: int
    role: int
    synced: bool


def read_member(block: bytes) -> Member | None:
    """A superblock's member, if it is one of a RAID 1 and complete."""
    if len(block) < _LENGTH or struct.unpack_from("<II", block) != (_MAGIC, 1):
        return None
    (features,) = struct.unpack_from("<I", block, 8)
    (level,) = struct.unpack_from("<i", block, 72)
    (disks,) = struct.unpack_from("<I", block, 92)
    number, highest = (
        struct.unpack_from("<I", block, 160)[0],
        struct.unpack_from("<I", block, 220)[0],
    )
    (events,) = struct.unpack_from("<Q", block, 200)
    if level != 1 or features & _RECOVERING or number >= min(highest, 384):
        return None
    (role,) = struct.unpack_from("<H", block, _ROLES + 2 * number)
    (synced_to,) = struct.unpack_from("<Q", block, 208)
    return Member(block[16:32], events, role, synced_to == _ALL) if role < disks else None


def find_mirrors(version: Version) -> dict[int, frozenset[int]]:
    """By the place of a disk: the disks that could take its place."""
    machine = version.manifest.machine
    members = {
        at: _members(version.raw(at), disk)
        for at, disk in enumerate(machine.disks)
        if any(one.filesystem == "linux_raid_member" for one in disk.partitions)
    }
    found = {}
    for at in members:
        others = (one for one in members if one != at)
        found[at] = frozenset(one for one in others if _covers(machine, members, one, at))
    return {at: others for at, others in found.items() if others}


def _members(image: Path, disk: Disk) -> dict[int, Member]:
    """By partition; an image that can't be read has none, so nothing is left out for its sake."""
    try:
        return _read_members(image, disk)
    except OSError:
        return {}


def _read_members(image: Path, disk: Disk) -> dict[int, Member]:
    found = {}
    with image.open("rb") as raw:
        for part in disk.partitions:
            if part.filesystem != "linux_raid_member":
                continue
            for place in _places(part):
                raw.seek(place)
                member = read_member(raw.read(_LENGTH))
                if member is not None:
                    found[part.number] = member
                    break
    return found


def _places(part: Partition) -> tuple[int, ...]:
    """Version 1.2, 1.1 and 1.0; the last lies 8 KiB before the end, at a multiple of 4 KiB."""
    sectors = part.size // 512 - 16
    return part.start + 4096, part.start, part.start + (sectors & ~7) * 512


def _covers(
    machine: Machine, members: Mapping[int, Mapping[int, Member]], one: int, other: int
) -> bool:
    """Whether disk ``one`` holds all that is on disk ``other``, not older."""
    have = {member.array: member for member in members[one].values()}
    return all(
        _needless(part, members[other].get(part.number), have, machine.disks[one].partitions)
        for part in machine.disks[other].partitions
    )


def _needless(
    part: Partition,
    member: Member | None,
    have: Mapping[bytes, Member],
    others: Sequence[Partition],
) -> bool:
    if part.filesystem == "linux_raid_member":
        same = have.get(member.array) if member is not None else None
        if member is None or same is None or same.events < member.events:
            return False
        return same.synced or same.role < member.role
    if is_extended(part.kind) or part.kind.lower() == _BIOS_BOOT:
        return True
    if part.filesystem == SWAP:  # whose content ends with the machine that ran
        return any(one.filesystem == SWAP for one in others)
    if part.kind.lower() in _ESP:
        return any(one.kind.lower() in _ESP for one in others)
    return False
