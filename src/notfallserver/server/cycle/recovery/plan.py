"""What a recovery does to the target's disks. Pure; nothing is opened here.

Disks of the original's size or larger take its blocks as they are. Onto smaller ones, and where
several disks go onto one, the blocks of a reshaped image are written (``reshape.py``); whether all
fits is decided here, before anything is written. What is grown is grown on the target at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from notfallserver.guest.layout import SHRINKABLE, Part, Place, Room, grow, lay_out
from notfallserver.server.cycle.recovery.assign import (
    Assignment,
    Mirrors,
    assign,
    size_told,
)
from notfallserver.wire.cards import real_cards
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine

LESS = 0.9
"""Below this share of the original's memory a person is told; firmware keeps some of it."""


@dataclass(frozen=True)
class Known:
    """What is known of the image beside the agent's facts.

    ``boots_by``: the firmware that it can start by. ``least``: by disk and partition, the bytes to
    which what lies there can be made smaller. ``mirrors``: see :data:`Mirrors`.
    """

    boots_by: Sequence[str] = ()
    least: Mapping[tuple[int, int], int] = field(default_factory=dict)
    mirrors: Mirrors = field(default_factory=dict)


@dataclass(frozen=True)
class Move:
    """Disk ``index`` that the target is given goes to ``disk``; it is made of ``originals``.

    ``size``: of the image that is written. ``changes`` in words, ``can_grow``: there is room.
    """

    index: int
    sources: tuple[int, ...]
    originals: tuple[Disk, ...]
    disk: Disk
    size: int
    changes: tuple[str, ...] = ()
    can_grow: bool = False

    def order(self) -> dict[str, object]:
        return {
            "index": self.index,
            "serial": self.disk.serial,
            "name": self.disk.name,
            "size": self.disk.size,
        }

    @property
    def reshaped(self) -> bool:
        return len(self.sources) > 1 or self.size != self.originals[0].size


@dataclass(frozen=True)
class DiskPlan:
    """What a recovery will do to the target's disks."""

    moves: tuple[Move, ...]
    untouched: tuple[Disk, ...]
    warnings: tuple[str, ...] = ()
    grow: bool = False

    def orders(self) -> list[dict[str, object]]:
        return [one.order() for one in self.moves]

    def shape(self, original: Machine) -> list[dict[str, Any]] | None:
        """What the reshaped image is made of; None where the version itself is written."""
        plain = [one.sources for one in self.moves] == [(at,) for at in range(len(original.disks))]
        if plain and not any(one.reshaped for one in self.moves):
            return None
        return [{"sources": list(one.sources), "size": one.size} for one in self.moves]


def plan_recovery(
    original: Machine,
    target: Machine,
    named: Mapping[str, str],
    growing: bool = False,
    known: Known | None = None,
) -> DiskPlan:
    """Plan, or refuse with the reason. ``named`` maps original disk names to target disk names."""
    known = known or Known()
    _check_firmware(original, target, known)
    assigned = assign(original, target, named, known.mirrors)
    moves = tuple(
        _move(index, original, one, growing, known) for index, one in enumerate(assigned.disks)
    )
    taken = {one.disk.name for one in moves}
    untouched = tuple(one for one in target.disks if one.name not in taken)
    warnings = [*_warnings(original, target), *_left_out(original, assigned.left_out)]
    if any("shrinks" in text or "copied" in text for one in moves for text in one.changes):
        warnings.append(
            "Filesystems are made smaller once more in the switch-back: it takes longer."
        )
    grows = growing and any(one.can_grow for one in moves)
    if growing and not grows:
        warnings.append("Nothing on the target's disks can be grown.")
    return DiskPlan(moves, untouched, tuple(warnings), grows)


def needs_measuring(
    original: Machine, target: Machine, named: Mapping[str, str], mirrors: Mirrors
) -> bool:
    """Whether it must be known how small filesystems can get."""
    for one in assign(original, target, named, mirrors).disks:
        disks = [original.disks[at] for at in one.sources]
        parts = (part for disk in disks for part in disk.partitions)
        if one.disk.size < sum(disk.size for disk in disks) and any(
            part.filesystem in SHRINKABLE for part in parts
        ):
            return True
    return False


def only_disks(original: Machine, shape: Sequence[Mapping[str, Any]] | None) -> Machine:
    """The original as what is written knows it: one disk for each of the target's."""
    if shape is None:
        return original
    kept = [original.disks[one["sources"][0]] for one in shape]
    return replace(original, disks=kept)


def _check_firmware(original: Machine, target: Machine, known: Known) -> None:
    if original.firmware == target.firmware or target.firmware in known.boots_by:
        return
    want, got = original.firmware.upper(), target.firmware.upper()
    raise NotfallError(
        "firmware-differs",
        f"The original starts by {want}, but the target was started by {got}, for which the copy "
        "has no boot loader.",
        f"Choose {want} in the target's set-up and boot the rescue medium again.",
    )


def _move(index: int, original: Machine, one: Assignment, growing: bool, known: Known) -> Move:
    disks = tuple(original.disks[at] for at in one.sources)
    for old in disks:
        if one.disk.sector != old.sector:
            raise NotfallError(
                "sector-size-differs",
                f"The target's disk {one.disk.name} has sectors of {one.disk.sector} bytes, the "
                f"original's {old.name} has {old.sector}.",
                "Use a disk with the same sector size.",
            )
    parts = {at: _parts(at, original.disks[at], known) for at in one.sources}
    base = one.sources[0]
    room = Room(disks[0].table, one.disk.size, one.disk.sector)
    size = disks[0].size
    changes: list[str] = []
    present = parts[base]
    if len(disks) > 1 or one.disk.size < disks[0].size:
        size = one.disk.size
        try:
            places = lay_out(parts[base], [parts[at] for at in one.sources[1:]], room)
        except NotfallError as error:
            raise _refused(error, disks, one.disk) from None
        changes += _words(places, base, original.disks)
        present = [
            replace(at.part, number=at.number, start=at.start, size=at.size) for at in places
        ]
    grown = grow(present, room)
    if growing and grown:
        changes += [
            f"{_name(place.number)} ({place.part.filesystem}) grows from "
            f"{size_told(place.part.size)} to {size_told(place.size)}"
            for place in grown
            if place.grown
        ]
    return Move(index, one.sources, disks, one.disk, size, tuple(changes), bool(grown))


def _parts(at: int, disk: Disk, known: Known) -> list[Part]:
    return [
        Part(
            *(at, one.number, one.start, one.size, one.filesystem, one.kind),
            least=known.least.get((at, one.number), 0),
        )
        for one in disk.partitions
    ]


def _refused(error: NotfallError, disks: Sequence[Disk], disk: Disk) -> NotfallError:
    names = ", ".join(one.name for one in disks)
    if len(disks) == 1 and error.code == "layout-not-possible":
        return NotfallError(
            "target-disk-too-small",
            f"The target's disk {disk.name} ({size_told(disk.size)}) is smaller than the "
            f"original's {names} ({size_told(disks[0].size)}), on which nothing can be shrunk.",
            "Use a disk of the same size or larger.",
        )
    if error.code == "contents-do-not-fit":
        return NotfallError(
            "target-disk-too-small",
            f"The target's disk {disk.name} ({size_told(disk.size)}) is too small for the "
            f"original's {names}. {error.cause}",
            "Use a larger disk.",
        )
    return NotfallError(error.code, f"{names} onto {disk.name}: {error.cause}", error.remedy)


def _name(number: int) -> str:
    return f"partition {number}" if number else "the filesystem"


def _words(places: Sequence[Place], base: int, disks: Sequence[Disk]) -> Iterator[str]:
    for one in places:
        name = _name(one.part.number)
        if one.part.disk != base:
            yield f"{name} of {disks[one.part.disk].name} becomes partition {one.number}"
            name = f"partition {one.number}"
        if one.shrunk and one.part.filesystem == "xfs":
            yield (
                f"{name} (xfs) is copied into a smaller one, {size_told(one.size)} instead of "
                f"{size_told(one.part.size)}"
            )
        elif one.shrunk:
            yield (
                f"{name} ({one.part.filesystem}) shrinks from {size_told(one.part.size)} to "
                f"{size_told(one.size)}"
            )


def _left_out(original: Machine, left_out: Sequence[int]) -> Iterator[str]:
    for at in left_out:
        yield (
            f"{original.disks[at].name} is left out: what is on it is mirrored on another disk. "
            "The mirror works on one disk until a second one is added."
        )


def _warnings(original: Machine, target: Machine) -> Iterator[str]:
    """What is weaker than on the original, or other, but hinders nothing."""
    if original.firmware != target.firmware:
        was, now = original.firmware.upper(), target.firmware.upper()
        yield f"The target starts by {now}, the original by {was}; the copy can start by both."
    if target.memory < original.memory * LESS:
        has, had = size_told(target.memory), size_told(original.memory)
        yield f"The target has {has} of memory, the original had {had}."
    cards, before = len(real_cards(target)), len(real_cards(original))
    if cards < before:
        yield (
            f"The target has {cards} network card(s), the original had {before}: the networks of "
            "the others will be missing."
        )
