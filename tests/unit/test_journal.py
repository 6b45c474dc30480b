"""The journal: what a filter finds, in which order, and why things happened in plain words."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from notfallserver.server.cycle.moves import because
from notfallserver.server.records import Catalogue, open_catalogue
from notfallserver.server.records.events import Event, PrimaryChanged, PrimaryHeard
from notfallserver.server.records.journal import Entry, Wanted
from notfallserver.server.web import language
from notfallserver.server.web.page.journal import _harmless
from notfallserver.server.web.words.history import GRAVE, GRAVE_ONLY, happening, wanted_events
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

ONE, TWO = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    opened = open_catalogue(tmp_path)
    yield opened
    opened.close()


def entry(event: str, why: str = "", **details: object) -> Entry:
    return Entry(1, datetime.now(timezone.utc), ONE, event, "server", why, "", "", details)


def test_filters_find_what_fits_newest_first(catalogue: Catalogue) -> None:
    journal = catalogue.journal
    journal.write(ONE, "version", "server", details={"kind": "replication"})
    journal.write(ONE, "version", "server", details={"kind": "capture"})
    between = datetime.now(timezone.utc)
    journal.write(TWO, "refused", "ada", "alive")
    journal.write(None, "logged-in", "ada")

    def found(wanted: Wanted) -> list[str]:
        return [one.event for one in journal.entries(wanted=wanted)]

    assert found(Wanted()) == ["logged-in", "refused", "version", "version"]
    assert found(Wanted(primary=ONE)) == ["version", "version"]
    assert found(Wanted(who="ada", primary=TWO)) == ["refused"]
    assert found(wanted_events(GRAVE_ONLY)) == ["refused"] and "refused" in GRAVE
    assert found(Wanted(until=between)) == ["version", "version"]
    assert found(Wanted(since=between)) == ["logged-in", "refused"]
    kinds = [one.details["kind"] for one in journal.entries(wanted=wanted_events("capture"))]
    assert kinds == ["capture"]
    assert [one.details["kind"] for one in journal.entries(wanted=wanted_events("version"))] == [
        "replication"
    ]
    assert journal.people() == ["ada", "server"]
    assert journal.events() == ["logged-in", "refused", "version"]


def test_pages_of_entries_miss_and_repeat_none(catalogue: Catalogue) -> None:
    for number in range(23):
        catalogue.journal.write(ONE, "version", "server", str(number))
    told: list[str] = []
    before = None
    while page := catalogue.journal.entries(ONE, 5, before):
        told += [one.why for one in page]
        before = page[-1].id
    assert told == [str(number) for number in reversed(range(23))]
    assert [one.why for one in catalogue.journal.all(Wanted())] == told


def test_jobs_that_are_over_can_be_paged(catalogue: Catalogue) -> None:
    jobs = catalogue.jobs
    made = []
    for number in range(7):
        job, _ = jobs.add("replicate", f"{number}", {}, "ada")
        failed = number % 3 == 0
        jobs.finish(job.id, "failed" if failed else "done", error=NotfallError("x", "x."))
        made.append(job.id)
    running, _ = jobs.add("replicate", "one more", {}, "ada")
    first = jobs.over(4)
    rest = jobs.over(4, first[-1].id)
    assert [one.id for one in first + rest] == made[::-1]
    assert running.id not in {one.id for one in first + rest}
    assert [one.id for one in jobs.over(9, failed=True)] == [made[6], made[3], made[0]]
    assert [one.id for one in jobs.over(9, primary="2")] == [made[2]]


def test_a_call_that_tells_nothing_new_is_no_change(catalogue: Catalogue) -> None:
    machine = Machine("shop")
    catalogue.primaries.adopt_primary(ONE, "shop", machine, "", "new", 0, 0)
    heard: list[Event] = []
    with catalogue.events.listening(heard.append):
        for boot, role in (("a", "primary"), ("a", "primary"), ("b", "primary"), ("b", "stand-in")):
            catalogue.primaries.saw_agent(ONE, boot, role, "1", machine)
        catalogue.primaries.saw_agent(ONE, "b", "stand-in", "1", Machine("other"))
        catalogue.primaries.saw_agent(ONE, "b", "stand-in", "1")
    changed = [isinstance(one, PrimaryChanged) for one in heard]
    assert changed == [True, False, True, True, True, False]
    assert heard[1] == PrimaryHeard(ONE)
    assert catalogue.primaries.find(ONE).machine == Machine("other")


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (entry("refused", "The primary shows…", reason="alive"), "Er zeigte noch Lebenszeichen."),
        (entry("standin_dropped", "undone"), ""),
        (entry("version", kind="capture"), ""),
        (entry("recovered", downtime_s=94.0), "2 Minuten lang konnte niemand damit arbeiten."),
        (entry("schedule-changed", schedule_minutes=0), "Kopien nur auf Wunsch"),
        (entry("version-lost", "No copy…", version="20261123T101500.000Z", count=3), "3 Blöcke"),
        (entry("original-returned", "The original…"), "Schalten Sie das Original aus."),
    ],
)
def test_why_is_told_in_the_readers_language(one: Entry, told: str) -> None:
    speech = language.speech("de")
    reasons = happening(one).reasons
    assert reasons is not None
    words = " ".join(speech.words(part) for part in reasons)
    assert words == told or (told and told in words)


def test_a_failure_is_told_by_its_code(catalogue: Catalogue) -> None:
    why, details = because(NotfallError("stand-in-off", "It went off.", "Look."))
    reasons = happening(entry("activation_failed", why, **details)).reasons
    speech = language.speech("de")
    assert reasons and "Ersatzsystem" in speech.words(reasons[0])
    assert because(KeyboardInterrupt())[1] == {"code": "keyboardinterrupt"}
    # one of before codes were kept, and what a person typed, stay as they are
    assert happening(entry("activation_failed", "It went off.")).reasons is None
    assert happening(entry("overruled", "I pulled its plug", reason="overruled")).reasons is None


def test_no_cell_of_the_table_is_a_formula() -> None:
    assert _harmless("=1+1") == "'=1+1" and _harmless("@x") == "'@x"
    assert _harmless("shop") == "shop" and _harmless("") == ""


def test_a_removed_primary_keeps_its_name_in_the_journal(catalogue: Catalogue) -> None:
    catalogue.primaries.adopt_primary(ONE, "shop", None, "", "new", 0, 0)
    catalogue.primaries.remove(ONE, "ada")
    assert catalogue.journal.names_of_removed() == {ONE: "shop"}
    until = datetime.now(timezone.utc) + timedelta(minutes=1)
    assert len(catalogue.journal.entries(wanted=Wanted(primary=ONE, until=until))) == 2
