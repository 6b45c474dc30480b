"""Which copy is offered first on the worst day, which one is started, and which images are kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from notfallserver.server.cycle.choice import (
    WISH,
    Candidate,
    Choice,
    Role,
    offers_of,
    wished,
)
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.outage.watch import groups_to_ask
from notfallserver.server.pool.proof import (
    Evidence,
    Grade,
    Standing,
    VolumeCheck,
    VolumeState,
    worth_keeping,
)
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.records.primaries import Primary
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine, Nic

OLD, MID, NEW = "20261125T020000.000Z", "20261126T020000.000Z", "20261126T140000.000Z"
UP = Evidence("r", "2026-11-26T03:00:00+00:00", started=True, ports=(80,))
DOWN = Evidence("r", "2026-11-26T15:00:00+00:00", started=False)
HURT = Evidence(started=True, volumes=(VolumeCheck("v", "ext4", VolumeState.DAMAGED),))


def copy(stamp: str, evidence: Evidence | None = None, **known: Any) -> Candidate:
    kind = {"kind": "replication", "base": "", "prepared": True, **known}
    return Candidate(stamp, evidence=evidence, **kind)


def shown(*candidates: Candidate) -> list[tuple[Role, str, bool]]:
    return [(one.role, one.stamp, one.taken) for one in offers_of(candidates)]


def test_where_nothing_was_ever_tried_it_is_the_newest_alone() -> None:
    assert shown(copy(NEW), copy(OLD)) == [(Role.NEWEST, NEW, True)]
    assert shown() == []


def test_the_proven_one_is_first_and_the_newest_is_taken() -> None:
    """Half a day of a company's work is not given up for the certainty to start."""
    assert shown(copy(NEW), copy(MID, UP), copy(OLD, UP)) == [
        (Role.PROVEN, MID, False),
        (Role.NEWEST, NEW, True),
    ]
    first, second = offers_of([copy(NEW, prepared=False), copy(MID, UP)])
    assert timedelta(seconds=first.behind_s) == timedelta(hours=12) and second.behind_s == 0
    assert (first.standing, first.grade) == (Standing.PROVEN, Grade.SERVING)
    assert first.proved_at == UP.at and first.prepared and not second.prepared
    assert second.grade is Grade.NONE


def test_what_is_known_not_to_start_is_neither_first_nor_taken() -> None:
    assert shown(copy(NEW, DOWN), copy(MID, UP)) == [
        (Role.PROVEN, MID, True),
        (Role.NEWEST, NEW, False),
    ]
    # With nothing better known it is tried all the same.
    assert shown(copy(NEW, DOWN), copy(MID)) == [(Role.NEWEST, NEW, True)]
    # A damaged file system in a copy that starts is no reason to lose half a day.
    assert shown(copy(NEW, HURT), copy(MID, UP))[1] == (Role.NEWEST, NEW, True)


def test_the_newest_that_is_proven_is_one_offer() -> None:
    assert shown(copy(NEW, UP), copy(MID, UP)) == [(Role.PROVEN, NEW, True)]


def test_damaged_copies_are_offered_only_where_no_other_is() -> None:
    assert shown(copy(NEW, UP, sound=False), copy(MID)) == [(Role.NEWEST, MID, True)]
    assert shown(copy(NEW, sound=False)) == [(Role.NEWEST, NEW, True)]


def test_a_copy_of_the_server_that_a_stand_in_left_aside_is_offered() -> None:
    """The stand-in was made of an older copy and given up: what the newest knows is not all."""
    captures = (
        copy("20261126T160000.000Z", kind="capture", base="20261126T150000.000Z"),
        copy("20261126T150000.000Z", kind="capture", base=MID),
    )
    assert shown(*captures, copy(NEW), copy(MID)) == [
        (Role.NEWEST, captures[0].stamp, True),
        (Role.ORIGINAL, NEW, False),
    ]
    assert shown(*captures, copy(MID), copy(OLD)) == [(Role.NEWEST, captures[0].stamp, True)]
    endless = (replace(captures[0], base=captures[1].stamp), replace(captures[1], base=NEW))
    assert shown(replace(endless[1], base=endless[1].stamp)) == [
        (Role.NEWEST, endless[1].stamp, True)
    ]


def test_the_images_of_the_newest_and_of_the_newest_proven_are_kept() -> None:
    sealed = {OLD, MID, NEW}
    assert worth_keeping(sealed, sealed, {}) == {NEW}
    assert worth_keeping(sealed, sealed, {OLD: UP, MID: UP}) == {NEW, MID}
    assert worth_keeping(sealed, sealed, {MID: DOWN, OLD: UP}) == {NEW, OLD}
    # One that must be made anew is no proof, and not what starts.
    assert worth_keeping(sealed, {OLD, MID}, {NEW: UP, OLD: UP}) == {NEW, MID, OLD}
    assert worth_keeping(set(), set(), {OLD: UP}) == set()


def test_the_guard_asks_at_the_addresses_of_the_chosen_copy_as_well() -> None:
    """An address that the original gave up may be another machine's by now."""

    def version(stamp: str, kind: str, address: str) -> Any:
        machine = Machine("shop", nics=[Nic("eth0", "m", addresses=[f"{address}/24"])])
        return SimpleNamespace(stamp=stamp, manifest=SimpleNamespace(kind=kind, machine=machine))

    known = [
        version("20261126T160000.000Z", "capture", "10.1.2.1"),
        version(NEW, "replication", "10.1.2.3"),
        version(MID, "replication", "10.1.2.2"),
        version(OLD, "replication", "10.1.2.1"),
    ]

    def holds(standin: object) -> PrimaryStore:
        return cast(PrimaryStore, SimpleNamespace(versions=lambda: known, standin=lambda: standin))

    store = holds(None)
    now = known[1].manifest.machine
    nothing, old = (cast(Primary, SimpleNamespace(notes=one)) for one in ({}, {WISH: OLD}))
    assert groups_to_ask(store, nothing, now) == (("10.1.2.3",),)
    assert groups_to_ask(store, old, now) == (("10.1.2.3",), ("10.1.2.1",))
    made = holds(SimpleNamespace(version=MID))
    assert groups_to_ask(made, nothing, now) == (("10.1.2.3",), ("10.1.2.2",))
    # While its stand-in works, what is known of it is the stand-in's.
    assert groups_to_ask(store, nothing, known[0].manifest.machine) == (
        ("10.1.2.1",),
        ("10.1.2.3",),
    )
    assert groups_to_ask(None, nothing, now) == (("10.1.2.3",),)


class Store:
    def need_newest(self) -> None:
        pass

    def version(self, stamp: str) -> Any:
        if stamp != OLD:
            raise NotfallError("unknown-version", "")
        return SimpleNamespace(stamp=stamp)


def test_a_wish_is_remembered_until_the_next_activation() -> None:
    notes: dict[str, Any] = {}

    def note(uuid: str, **values: Any) -> None:
        notes.update(values)

    primaries = SimpleNamespace(note=note)
    pool = SimpleNamespace(primary=lambda uuid: Store())
    means = SimpleNamespace(pool=pool, catalogue=SimpleNamespace(primaries=primaries))
    choice = Choice(cast(Means, means))

    def row() -> Primary:
        kept = {key: value for key, value in notes.items() if value is not None}
        return cast(Primary, SimpleNamespace(uuid="u", notes=kept))

    assert choice.settle(row(), None) == "" and notes == {}
    assert choice.settle(row(), OLD) == OLD and wished(row()) == OLD
    with pytest.raises(NotfallError):
        choice.settle(row(), NEW)
    assert wished(row()) == OLD
    assert choice.settle(row(), None) == "" and notes == {WISH: None}
    assert wished(row()) == ""
