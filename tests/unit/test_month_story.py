"""What the journal tells of a month: outages, schedules, incidents; and the judgement of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from notfallserver.server.pool.proof import Standing
from notfallserver.server.records.journal import Entry
from notfallserver.server.records.space import Sample
from notfallserver.server.report.ages import Plan
from notfallserver.server.report.gather import silent_spans
from notfallserver.server.report.judge import findings_of, light_of, sum_up
from notfallserver.server.report.story import (
    incidents_of,
    minutes_at,
    outages_of,
    plans_of,
    state_at,
)
from notfallserver.server.report.tree import (
    Ages,
    Key,
    Light,
    PrimaryReport,
    Proof,
    Report,
    Span,
    Summary,
    read_report,
)
from notfallserver.server.web.language import speech
from notfallserver.server.web.report_paper import Writing
from notfallserver.server.web.words.report import sentence

BEGIN = datetime(2026, 10, 1, tzinfo=UTC)
SPAN = Span(BEGIN, BEGIN + timedelta(days=31))
HOUR = timedelta(hours=1)


def entries(*told: tuple[float, str, str, str]) -> list[Entry]:
    """Hours from the month's begin, event, state before and after."""
    return [
        Entry(at, BEGIN + hours * HOUR, "u", event, "server", "", before, after, {})
        for at, (hours, event, before, after) in enumerate(told)
    ]


def scheduled(hours: float, **details: Any) -> Entry:
    return Entry(0, BEGIN + hours * HOUR, "u", "schedule-changed", "anna", "", "", "", details)


def test_an_outage_is_told_from_the_silence_to_the_return() -> None:
    told = entries(
        (1, "outage_seen", "normal", "outage"),
        (1.5, "activate", "outage", "activating"),
        (1.6, "standin_up", "activating", "emergency"),
        (9, "recover", "emergency", "recovering"),
        (9.5, "recovery_failed", "recovering", "emergency"),
        (20, "recover", "emergency", "recovering"),
        (30, "switch_back", "recovering", "switching_back"),
        (31, "recovered", "switching_back", "normal"),
    )
    [one] = outages_of(told, SPAN)
    assert (one.begin, one.standin_at, one.end) == tuple(BEGIN + h * HOUR for h in (1, 1.6, 31))
    assert one.start_s == pytest.approx(360) and not one.planned


def test_a_short_silence_is_an_outage_without_a_stand_in() -> None:
    told = entries((1, "outage_seen", "normal", "outage"), (2, "primary_back", "outage", "normal"))
    [one] = outages_of(told, SPAN)
    assert one.standin_at is None and one.end == BEGIN + 2 * HOUR


def test_one_that_goes_on_has_no_end_and_one_of_an_earlier_month_is_not_told() -> None:
    earlier = entries(
        (-50, "outage_seen", "normal", "outage"), (-40, "primary_back", "outage", "normal")
    )
    assert outages_of(earlier, SPAN) == []
    lasting = entries((-50, "outage_seen", "normal", "outage"))
    assert [one.end for one in outages_of(lasting, SPAN)] == [None]


def test_rehearsals_and_a_handover_that_was_broken_off_are_no_outages() -> None:
    told = entries(
        (1, "rehearse", "normal", "rehearsing"),
        (2, "rehearsal_ended", "rehearsing", "normal"),
        (3, "hand_over", "normal", "handing_over"),
        (4, "handover_failed", "handing_over", "normal"),
    )
    assert outages_of(told, SPAN) == []
    planned = entries(
        (3, "hand_over", "normal", "handing_over"),
        (4, "activate", "handing_over", "activating"),
        (4.1, "standin_up", "activating", "emergency"),
    )
    assert [one.planned for one in outages_of(planned, SPAN)] == [True]


def test_while_a_stand_in_works_its_captures_are_the_plan() -> None:
    told = [
        *entries(
            (1, "activate", "outage", "activating"), (2, "standin_up", "activating", "emergency")
        ),
        scheduled(3, schedule_minutes=30),
        *entries((5, "recovered", "switching_back", "normal")),
    ]
    assert plans_of(told, BEGIN, "outage", 60, 15) == [
        Plan(BEGIN, 60),
        Plan(BEGIN + 2 * HOUR, 15),
        Plan(BEGIN + 5 * HOUR, 30),
    ]


def test_the_schedule_of_the_past_is_found() -> None:
    key = "schedule_minutes"
    assert minutes_at([], key, BEGIN, 60, 30) == 30
    later = [scheduled(5, schedule_minutes=30)]
    assert minutes_at(later, key, BEGIN, 60, 30) == 60
    both = [scheduled(-5, schedule_minutes=10), scheduled(-1, capture_minutes=5), *later]
    assert minutes_at(both, key, BEGIN, 60, 30) == 10
    assert state_at(entries((-1, "first_version", "new", "normal")), BEGIN, "new") == "normal"


def test_the_same_again_is_one_line() -> None:
    told = entries((1, "refused", "", ""), (2, "refused", "", ""), (3, "version-lost", "", ""))
    found = incidents_of([(one, one.event) for one in told])
    assert [(one.event, one.times) for one in found] == [("refused", 2), ("version-lost", 1)]


def test_a_server_that_took_no_samples_was_off() -> None:
    def at(hours: float) -> Sample:
        return Sample(BEGIN + hours * HOUR, 100, 50)

    assert silent_spans([at(0), at(6), at(13), at(19)], SPAN) == ()
    assert silent_spans([at(6), at(6 + 24 * 7), at(180)], SPAN) == (
        Span(BEGIN + 6 * HOUR, BEGIN + (6 + 24 * 7) * HOUR),
    )
    assert silent_spans([at(-100), at(-50)], SPAN) == ()


# -- judging -----------------------------------------------------------------------------------

GOOD = Ages(worst_s=4000, median_s=1800, at_end_s=1800, within=1.0)
PROOF = Proof("r", SPAN.end - timedelta(days=3), "v", True, Standing.PROVEN, answered_s=90)


def keys(ages: Ages = GOOD, proof: Proof | None = PROOF, state: str = "normal") -> list[Key]:
    return [one.key for one in findings_of(ages, proof, 60, state, 0, SPAN.end)]


def proved(**others: Any) -> Proof:
    return Proof(**{**vars(PROOF), **others})


def aged(**others: Any) -> Ages:
    return Ages(**{**vars(GOOD), **others})


def test_what_is_fresh_and_proven_has_no_findings() -> None:
    assert keys() == [] and light_of(()) is Light.GOOD


@pytest.mark.parametrize(
    ("ages", "proof", "state", "key", "light"),
    [
        (Ages(), PROOF, "new", Key.NO_VERSION, Light.BAD),
        (aged(at_end_s=4 * 3600), PROOF, "normal", Key.LATE, Light.WARN),
        (aged(at_end_s=10 * 3600), PROOF, "normal", Key.TOO_OLD, Light.BAD),
        (aged(within=0.9, gap_count=1), PROOF, "normal", Key.GAPS, Light.WARN),
        (GOOD, None, "normal", Key.NEVER_REHEARSED, Light.WARN),
        (
            *(GOOD, proved(passed=False, standing=Standing.REFUTED)),
            *("normal", Key.STARTS_NOT, Light.BAD),
        ),
        (
            *(GOOD, proved(passed=False, standing=Standing.UNPROVEN)),
            *("normal", Key.REHEARSAL_FAILED, Light.WARN),
        ),
        (
            *(GOOD, proved(at=SPAN.end - timedelta(days=40))),
            *("normal", Key.REHEARSAL_OLD, Light.WARN),
        ),
        (GOOD, PROOF, "outage", Key.DOWN, Light.BAD),
        (GOOD, PROOF, "emergency", Key.STANDIN_WORKS, Light.WARN),
    ],
)
def test_each_lack_is_found(
    ages: Ages, proof: Proof | None, state: str, key: Key, light: Light
) -> None:
    [one] = findings_of(ages, proof, 60, state, 0, SPAN.end)
    assert (one.key, one.light) == (key, light)


def primary(name: str, light: Light, seconds: float | None, proof: Proof | None) -> PrimaryReport:
    return PrimaryReport(
        name, name, light, SPAN, proof=proof, recovery_s=seconds, recovery_at=SPAN.begin
    )


def test_the_sentence_never_promises_more_than_was_proved() -> None:
    def told(*primaries: PrimaryReport, language: str = "en") -> str:
        return speech(language).words(sentence(sum_up(primaries)))

    well = primary("a", Light.GOOD, 90, PROOF)
    slow = primary("b", Light.WARN, 240, PROOF)
    bad = primary("c", Light.BAD, 999, PROOF)
    unproven = primary("d", Light.WARN, None, None)
    gone = primary("e", Light.GONE, 5000, PROOF)
    assert told() == "No server is protected by this emergency server yet."
    assert told(well) == "The server can be replaced at any time; its last start took 2 minutes."
    both = told(well, slow, gone)
    assert both == ("All 2 servers can be replaced at any time; the longest start took 4 minutes.")
    assert told(well, slow, language="de") == (
        "Alle 2 Server können jederzeit ersetzt werden; der längste Start dauerte 4 Minuten."
    )
    assert told(well, bad, unproven) == "1 of 3 servers can be replaced at any time."
    assert told(bad, unproven) == "None of the 2 servers is known to be replaceable."
    assert told(unproven) == "The server is not known to be replaceable."
    assert sum_up([well, bad, gone]) == Summary(2, 1, 0, 1, 90)


def test_the_tree_comes_back_as_it_was_written() -> None:
    mine = primary("a", Light.GOOD, 90, PROOF)
    report = Report(
        *("2026-10", "Firma", "srv", "0", "ff", "Europe/Berlin", SPAN.begin, SPAN.end, SPAN.end),
        *(True, SPAN.end, sum_up([mine]), (mine,)),
    )
    content = report.to_json()
    assert read_report(content) == report and read_report(content).to_json() == content
    with pytest.raises(ValueError, match="format 2"):
        read_report(content.replace(b'"format": 1', b'"format": 2'))


@pytest.mark.parametrize(
    ("seconds", "english", "german"),
    [
        (0.2, "1 second", "1 Sekunde"),
        (97, "2 minutes", "2 Minuten"),
        (3600, "1 hour", "1 Stunde"),
        (3601, "1 hour, 1 minute", "1 Stunde, 1 Minute"),
        (86399, "1 day", "1 Tag"),
        (612000, "7 days, 2 hours", "7 Tage, 2 Stunden"),
    ],
)
def test_what_is_the_most_is_never_rounded_down(seconds: float, english: str, german: str) -> None:
    assert Writing(speech("en"), "UTC").lasting(seconds) == english
    assert Writing(speech("de"), "UTC").lasting(seconds) == german
    assert Writing(speech("de"), "Europe/Berlin").share(0.99999) == "99,9 %"
