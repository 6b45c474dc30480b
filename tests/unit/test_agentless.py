"""A primary without an agent: its silence says nothing, the network and people tell."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_readiness import copy, facts, keys
from test_situation import NOW, primary, texts

from notfallserver.server.cycle import lookout, way_back
from notfallserver.server.cycle.agentless import (
    answers,
    is_agentless,
    refuse_agentless,
    require_address,
    was_imported,
)
from notfallserver.server.cycle.lookout import Lookout, Step, next_step
from notfallserver.server.cycle.outage.guard import Findings, Reason, Verdict, decide, overrule
from notfallserver.server.cycle.outage.probe import Sighting, Way
from notfallserver.server.cycle.outage.sounding import SOUNDING
from notfallserver.server.cycle.proofs import SERIES, Proofs
from notfallserver.server.cycle.proofs import Step as Proof
from notfallserver.server.records import Catalogue, open_catalogue
from notfallserver.server.records.primaries import Primary
from notfallserver.server.web.language import speech
from notfallserver.server.web.words import situation as told
from notfallserver.server.web.words.beginning import Place, Stage, stages
from notfallserver.server.web.words.situation import Light, situation
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine, Nic

UUID = "7d1f7c1e-0b1a-4a5e-9d3f-000000000001"
WITNESS = (Sighting(Way.PING, "198.51.100.1", True),)


def verdict(alive: bool | None) -> Verdict:
    """Of an address that answers, is silent, or of a machine without one."""
    seen = () if alive is None else (Sighting(Way.ARP, "198.51.100.7", alive),)
    return decide(Findings(seen, WITNESS, None))


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    opened = open_catalogue(tmp_path)
    opened.primaries.add_agentless(UUID, "shop", 15, "ada")
    yield opened
    opened.close()


def row_of(catalogue: Catalogue) -> Primary:
    return catalogue.primaries.find(UUID)


def with_address(catalogue: Catalogue) -> Machine:
    nic = Nic("eth0", "52:54:00:00:00:01", addresses=["198.51.100.7/24"])
    machine = Machine("shop", disks=[Disk("vda", 1 << 30)], nics=[nic])
    catalogue.primaries.new_version(UUID, "20261126T101500.000Z", machine)
    return machine


def test_it_is_one_until_an_agent_calls(catalogue: Catalogue) -> None:
    row = row_of(catalogue)
    assert is_agentless(row) and (row.state, row.schedule_minutes) == ("new", 0)
    with pytest.raises(NotfallError, match="no agent"):
        refuse_agentless(row)
    with pytest.raises(NotfallError, match="no address"):
        require_address(row)
    with_address(catalogue)
    require_address(row_of(catalogue))
    catalogue.primaries.saw_agent(UUID, "b", "primary", "1")
    row = row_of(catalogue)
    assert not is_agentless(row)
    refuse_agentless(row)


def test_the_pool_remembers_it() -> None:
    def store(*kinds: str) -> Any:
        versions = [SimpleNamespace(manifest=copy(kind=kind)) for kind in kinds]
        return SimpleNamespace(versions=lambda: versions)

    assert was_imported(store("import")) and was_imported(store("capture", "import"))
    assert not any(map(was_imported, (store(), store("replication"), store("capture"))))
    assert not was_imported(store("import", "replication"))


def test_the_guard_asks_the_network_or_demands_a_reason() -> None:
    assert verdict(False).reason is Reason.SILENT
    assert verdict(True).reason is Reason.ALIVE
    nothing = verdict(None)
    assert (nothing.allowed, nothing.reason) == (False, Reason.CANNOT_TELL)
    with pytest.raises(NotfallError, match="needs a reason"):
        overrule(nothing, " ")
    assert overrule(nothing, "I have pulled its plug").allowed


@pytest.mark.parametrize(
    ("state", "alive", "known", "silences", "step"),
    [
        ("normal", False, True, 0, Step.SILENT),
        ("normal", False, True, 1, Step.OUTAGE),
        ("rehearsing", False, True, 1, Step.OUTAGE),
        ("normal", False, False, 5, Step.WAIT),  # perhaps it never was on
        ("normal", True, True, 1, Step.WAIT),
        ("normal", None, True, 5, Step.WAIT),
        ("outage", True, True, 0, Step.BACK),
        ("outage", True, False, 0, Step.BACK),
        ("outage", False, True, 5, Step.WAIT),
        ("outage", None, True, 0, Step.WAIT),
    ],
)
def test_what_the_network_tells(
    state: str, alive: bool | None, known: bool, silences: int, step: Step
) -> None:
    assert next_step(state, verdict(alive), known, silences) is step


def test_a_recovered_machine_is_known_by_its_answer(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    means: Any = SimpleNamespace(present=lambda: None, pool=None, catalogue=catalogue)
    alive = {"now": False}
    monkeypatch.setattr(way_back, "examine_primary", lambda *_: verdict(alive["now"]))
    assert not way_back.is_back(means, row_of(catalogue))
    alive["now"] = True
    assert way_back.is_back(means, row_of(catalogue))
    catalogue.primaries.saw_agent(UUID, "b", "primary", "1")  # from now on its agent must call
    assert not way_back.is_back(means, row_of(catalogue))


def test_our_own_stand_in_is_no_sign_of_life() -> None:
    ours = Sighting(Way.ARP, "198.51.100.7", True, ours=True)
    assert not answers(decide(Findings((ours,), WITNESS, None)))
    assert answers(verdict(True)) and not answers(verdict(None))


def test_the_lookout_asks_now_and_then_and_moves(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    moved: list[str] = []
    alive = {"now": False}
    monkeypatch.setattr(lookout, "end_rehearsals", lambda *_: None)

    def examine(uuid: str) -> Verdict:
        asked.append(uuid)
        return verdict(alive["now"])

    def move(uuid: str, event: str, *_: Any) -> None:
        moved.append(event)

    look = Lookout(*(None,) * 2, move, examine).look  # type: ignore[arg-type]
    catalogue.primaries.move(UUID, "new", "normal", "first_version", "test")
    look(row_of(catalogue))
    with_address(catalogue)
    look(row_of(catalogue))  # nothing has ever answered
    assert asked == []
    catalogue.primaries.note(UUID, **{SOUNDING: ["arp 198.51.100.7"]})
    look(row_of(catalogue))
    look(row_of(catalogue))
    assert (asked, moved) == ([UUID], [])
    monkeypatch.setattr(lookout, "EVERY", timedelta(0))
    alive["now"] = True
    look(row_of(catalogue))  # it was only a moment
    alive["now"] = False
    look(row_of(catalogue))
    assert moved == []
    look(row_of(catalogue))
    assert moved == ["outage_seen"]
    catalogue.primaries.move(UUID, "normal", "outage", "outage_seen", "test")
    look(row_of(catalogue))
    alive["now"] = True
    look(row_of(catalogue))
    assert moved == ["outage_seen", "primary_back"]


def test_a_failed_proof_orders_nothing_that_only_an_agent_can(catalogue: Catalogue) -> None:
    deepened: list[str] = []
    means: Any = SimpleNamespace(catalogue=catalogue)
    proofs = Proofs(means, lambda _: None, lambda *_: None, deepened.append)
    proofs._take(row_of(catalogue), Proof.DEEP, "r")
    assert deepened == []
    assert row_of(catalogue).notes[SERIES]["failures"] == 2
    catalogue.primaries.saw_agent(UUID, "b", "primary", "1")
    proofs._take(row_of(catalogue), Proof.DEEP, "r")
    assert deepened == [UUID]


# -- words ---------------------------------------------------------------------------------------


def test_readiness_does_not_ask_for_an_agent_or_a_schedule() -> None:
    given = {"heard": False, "agent": "", "agentless": True, "schedule_minutes": 0}
    taken = copy(kind="import", consistency="crash", base="")
    found = keys(facts(**given, copies=(taken,)))
    assert {"no-agent", "imported-unfrozen"} <= set(found)
    assert not {"never-heard", "no-schedule", "no-copy", "no-copy-yet", "not-frozen"} & set(found)
    assert "no-image-yet" in keys(facts(**given, copies=()))
    failed = {"image_import": ("image-damaged", "It is damaged.")}
    assert "no-image" in keys(facts(**given, copies=(), failed=failed))
    assert "import-failed" in keys(facts(**given, copies=(taken,), failed=failed))
    bare = Machine("shop", disks=[Disk("vda", 1 << 30)], nics=[Nic("", "52:54:00:00:00:01")])
    found = keys(facts(**given, copies=(taken,), machine=bare))
    assert {"no-address", "no-services"} <= set(found) and "no-card" not in found


def test_an_old_image_is_no_alarm_and_its_age_is_told() -> None:
    old = {"newest_version_at": NOW - timedelta(days=90), "schedule_minutes": 0, "last_seen": None}
    assert situation(primary(**old), NOW).light is Light.BAD
    one = situation(primary(**old, agentless=True), NOW)
    assert (one.light, one.title) == (Light.GOOD, told.PROTECTED)
    assert told.IMPORTED in texts(one) and told.LAST_COPY not in texts(one)


def test_a_new_one_waits_for_its_image_and_not_for_an_agent() -> None:
    new = {"state": "new", "newest_version": "", "newest_version_at": None, "last_seen": None}
    one = primary(**new, agentless=True)
    assert texts(situation(one, NOW)) == [told.ORDER_IMPORT]
    marks = stages(one, False, None)
    assert next(mark.stage for mark in marks if mark.place is Place.NOW) is Stage.COPY


@pytest.mark.parametrize(("agentless", "there"), [(True, True), (False, False)])
def test_a_person_can_say_that_it_works_again(agentless: bool, there: bool) -> None:
    template = speech("en").environment.get_template("parts/primary.html")
    source = Path(str(template.filename)).read_text()
    start = source.index(
        '{% if person.operates and primary.agentless and primary.state == "outage"'
    )
    part = source[start : source.index("{% endif %}", start) + len("{% endif %}")]
    shown = (
        speech("de")
        .environment.from_string(part)
        .render(
            person=SimpleNamespace(operates=True),
            primary=primary(state="outage", agentless=agentless),
        )
    )
    assert ("Er arbeitet wieder" in shown) is there
    assert ("/p/shop/emergency/undo" in shown) is there
