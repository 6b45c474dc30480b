"""Where the partitions of an original lie on disks of another size. Pure; all sizes are bytes.

Three questions, one kind of answer: a disk that is larger (:func:`grow`), smaller, or takes what
several disks held (:func:`lay_out`). What comes before the last partition with data keeps its
place; that one may change its size; swap behind it, of which only the header counts, moves as
needed; partitions of further disks follow. No table (number 0) means that the whole disk is one
filesystem.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from notfallserver.wire.errors import NotfallError

MIB = 1 << 20
GPT_TAIL = 33
"""Sectors that the backup of a GPT takes at the end of the disk."""
DOS_SECTORS = 1 << 32
"""An MBR knows no place beyond so many sectors."""
WORTH = 16 * MIB
"""Less is not worth a change of the table."""
EXTENDED = frozenset({"5", "f", "85"})
GROWABLE = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "LVM2_member"})
SHRINKABLE = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs"})
SWAP = "swap"


@dataclass(frozen=True)
class Part:
    """What lies on disk ``disk``; ``least``: so small its content fits, 0 where nobody knows."""

    disk: int
    number: int
    start: int
    size: int
    filesystem: str = ""
    kind: str = ""
    least: int = 0

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class Place:
    """Where a part lies from now on, and as which partition."""

    part: Part
    number: int
    start: int
    size: int

    @property
    def shrunk(self) -> bool:
        return self.size < self.part.size

    @property
    def grown(self) -> bool:
        return self.size > self.part.size


@dataclass(frozen=True)
class Room:
    """A disk that takes parts: its table (``dos``, ``gpt`` or empty), sizes of it and a sector."""

    table: str
    size: int
    sector: int = 512

    @property
    def end(self) -> int:
        """Where the last partition must end."""
        if not self.table:
            return self.size
        if self.table == "gpt":
            return (self.size - GPT_TAIL * self.sector) // MIB * MIB
        return min(self.size, DOS_SECTORS * self.sector) // MIB * MIB


def is_extended(kind: str) -> bool:
    return kind.lower().replace("0x", "").lstrip("0") in EXTENDED


def in_order(parts: Sequence[Part]) -> List[Part]:
    """By place, without the container of logical partitions."""
    return sorted((one for one in parts if not is_extended(one.kind)), key=lambda one: one.start)


def last_with_data(parts: Sequence[Part]) -> Optional[Part]:
    """The last one that is no swap."""
    return next((one for one in reversed(in_order(parts)) if one.filesystem != SWAP), None)


def grow(parts: Sequence[Part], room: Room) -> Tuple[Place, ...]:
    """All parts of a disk, the last with data as large as the disk allows; empty: nothing gained.

    Swap behind it goes to the end of the disk.
    """
    known = in_order(parts)
    last = last_with_data(known)
    if last is None or last.filesystem not in GROWABLE:
        return ()
    at = known.index(last)
    end = room.end
    moved: List[Place] = []
    for swap in reversed(known[at + 1 :]):
        end = (end - swap.size) // MIB * MIB
        moved.insert(0, Place(swap, swap.number, end, swap.size))
        if is_logical(room, swap.number):
            end -= MIB  # its own table lies before it
    if end - last.end < WORTH:
        return ()
    kept = [Place(one, one.number, one.start, one.size) for one in known[:at]]
    return (*kept, Place(last, last.number, last.start, end - last.start), *moved)


def lay_out(
    base: Sequence[Part], joined: Sequence[Sequence[Part]], room: Room
) -> Tuple[Place, ...]:
    """The parts of ``base`` and of further disks on one disk, or a refusal with figures.

    What is missing is taken from those that can be shrunk, each in proportion to what it can give.
    """
    known = in_order(base)
    last = last_with_data(known)
    further = [part for parts in joined for part in in_order(parts)]
    if last is None or (further and not room.table):
        raise NotfallError(
            "layout-not-possible",
            "The disk has no partition table, or no partition with data, to which others could be "
            "added.",
            "Use as many disks as the original had.",
        )
    at = known.index(last)
    if not room.table:
        return (Place(last, 0, 0, _fitting(last, room.size)),)
    numbers = _numbers(base, known, further, room)
    queue = known[at:] + further
    gaps = sum(MIB for one in queue if is_logical(room, numbers[one]))
    space = room.end - _up(last.start) - gaps
    sizes = _shrunk(queue, space, _up(last.start) + gaps, room)
    places = [Place(one, one.number, one.start, one.size) for one in known[:at]]
    here = last.start
    for one in queue:
        if one is not last and is_logical(room, numbers[one]):
            here += MIB
        places.append(Place(one, numbers[one], here, sizes[one]))
        here = _up(here + sizes[one])
    return tuple(places)


def _fitting(part: Part, size: int) -> int:
    size = min(part.size, size // MIB * MIB)
    if size < part.size and not 0 < part.least <= size:
        raise _too_small(part.least or part.size, size)
    return size


def is_logical(room: Room, number: int) -> bool:
    return room.table == "dos" and number > 4


def _numbers(
    base: Sequence[Part], known: Sequence[Part], further: Sequence[Part], room: Room
) -> Dict[Part, int]:
    numbers = {one: one.number for one in known}
    taken = {one.number for one in base}
    most = 4 if room.table == "dos" else 128
    logical = any(is_logical(room, one.number) for one in known)
    if logical and not any(is_extended(one.kind) for one in base):
        taken.add(next(one for one in range(1, 5) if one not in taken))  # it was not told of
    free = [one for one in range(1, most + 1) if one not in taken]
    if room.table == "gpt":  # behind the present ones: gaps are somebody's purpose
        top = max(taken, default=0)
        free = [one for one in free if one > top] + [one for one in free if one < top]
    if len(free) < len(further):
        raise NotfallError(
            "no-free-partition",
            f"The partition table has room for {len(free)} more partition(s), and {len(further)} "
            "would be added.",
            "Use as many disks as the original had.",
        )
    numbers.update(zip(further, free))
    return numbers


def _shrunk(queue: Sequence[Part], space: int, before: int, room: Room) -> Dict[Part, int]:
    """How large each is, so that all fit into ``space``."""
    sizes = {one: one.size for one in queue}
    missing = sum(_up(one.size) for one in queue) - space
    if missing <= 0:
        return sizes
    gives = {
        one: (one.size - _up(one.least)) // MIB * MIB
        for one in queue
        if one.least and one.filesystem in SHRINKABLE and _up(one.least) < one.size
    }
    if sum(gives.values()) < missing:
        tail = room.size - room.end
        least = sum(_up(one.size) - gives.get(one, 0) for one in queue)
        raise _too_small(before + least + tail, room.size)
    left, whole = _up(missing), sum(gives.values())
    for one, most in sorted(gives.items(), key=lambda pair: pair[1]):
        # rounded up, so the last one never has to give more than it can
        cut = min(most, left, _up(missing * most // whole))
        sizes[one] = (one.size - cut) // MIB * MIB
        left -= cut
    return sizes


def _up(size: int) -> int:
    return -(-size // MIB) * MIB


def _too_small(needed: int, has: int) -> NotfallError:
    return NotfallError(
        "contents-do-not-fit",
        f"At least {needed / (1 << 30):.1f} GiB are needed for what is on the original's disks, "
        f"there are {has / (1 << 30):.1f} GiB.",
        "Use a larger disk.",
    )
