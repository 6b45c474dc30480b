"""The order of a start plan: its steps, and what people change in it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from notfallserver.server.records.start_place import Begins, IfFails, Place
from notfallserver.wire.errors import NotfallError

LONGEST_S = 86400
LEAST_LIMIT_S = 10
LEAST_MIB, MOST_MIB = 64, 1 << 24
"""What a stand-in's memory may be limited to."""


@dataclass(frozen=True)
class Step:
    """Servers that start together. When is said as in :class:`Place`; the first step begins at
    once."""

    begins: Begins
    delay_s: int
    limit_s: int
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Wish:
    """What to change of a place; None leaves it as it is. ``place`` counts from 1."""

    place: int | None = None
    begins: Begins | None = None
    delay_s: int | None = None
    limit_s: int | None = None
    if_fails: IfFails | None = None
    memory_mib: int | None = None


def steps_of(places: Sequence[Place], wanted: Collection[str] | None = None) -> list[Step]:
    """The plan's steps; of those in which nobody is ``wanted`` nothing is left."""
    groups: list[list[Place]] = []
    for one in places:
        if groups and one.begins is Begins.TOGETHER:
            groups[-1].append(one)
        else:
            groups.append([one])
    steps = []
    for group in groups:
        chosen = tuple(one for one in group if wanted is None or one.primary in wanted)
        if chosen:
            first = group[0]  # which says when, though it may not be wanted itself
            steps.append(Step(first.begins, first.delay_s, first.limit_s, chosen))
    return steps


def ordered(places: Sequence[Place], groups: Sequence[Sequence[str]]) -> list[Place]:
    """The plan with these first, each group together; the others follow as they were."""
    by_uuid = {one.primary: one for one in places}
    named = [uuid for group in groups for uuid in group]
    if len(set(named)) != len(named):
        raise NotfallError(
            "bad-start-plan", "A server is named twice.", "Name each only once.", status=422
        )
    made = []
    for group in groups:
        for number, uuid in enumerate(one for one in group if one in by_uuid):
            place = by_uuid[uuid]
            if number:
                place = replace(place, begins=Begins.TOGETHER)
            elif place.begins is Begins.TOGETHER:
                place = replace(place, begins=Begins.WORKS)
            made.append(place)
    return [*made, *(one for one in places if one.primary not in set(named))]


def moved(places: Sequence[Place], primary: str, by: int) -> list[Place]:
    """One place up (-1), down (1), or more; never beyond the ends."""
    at = _find(places, primary)
    rest = [one for one in places if one.primary != primary]
    to = min(max(0, at + by), len(rest))
    return [*rest[:to], places[at], *rest[to:]]


def changed(places: Sequence[Place], primary: str, wish: Wish) -> list[Place]:
    """The plan with one place changed; what can't be is an error."""
    at = _find(places, primary)
    told: dict[str, Any] = {
        key: value for key, value in vars(wish).items() if value is not None and key != "place"
    }
    place = replace(places[at], **told)
    _check(place)
    made = [place if one.primary == primary else one for one in places]
    if wish.place is None:
        return made
    if not 1 <= wish.place <= len(made):
        raise _bad(f"The plan has the places 1 to {len(made)}.")
    return moved(made, primary, wish.place - 1 - at)


def _check(place: Place) -> None:
    if not 0 <= place.delay_s <= LONGEST_S:
        raise _bad(f"A delay is 0 to {LONGEST_S} seconds.")
    if not LEAST_LIMIT_S <= place.limit_s <= LONGEST_S:
        raise _bad(f"Waiting for a server is limited to {LEAST_LIMIT_S} to {LONGEST_S} seconds.")
    if place.memory_mib and not LEAST_MIB <= place.memory_mib <= MOST_MIB:
        raise _bad(f"A stand-in's memory is limited to {LEAST_MIB} to {MOST_MIB} MiB, 0: as usual.")


def _find(places: Sequence[Place], primary: str) -> int:
    return next(at for at, one in enumerate(places) if one.primary == primary)


def _bad(why: str) -> NotfallError:
    return NotfallError("bad-start-plan", why, "Type another value.", status=422)
