"""When a copy is rehearsed by itself, and what follows on a failure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from notfallserver.server.cycle.proofs import (
    Facts,
    Series,
    Step,
    has_room,
    next_step,
    starts_alone,
)
from notfallserver.server.records.rehearsals import Outcome, Rehearsal

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
OLD, NEW = "20261126T080000.000Z", "20261126T110000.000Z"
SILENT, PORTS = {"code": "rehearsal-silent"}, {"code": "rehearsal-ports-silent"}


def rehearsal(
    outcome: Outcome, hours: float = 1, error: dict[str, str] | None = None, name: str = "r"
) -> Rehearsal:
    began = NOW - timedelta(hours=hours)
    return Rehearsal(name, "p", OLD, "schedule", began, outcome, error=error)


def step(
    last: Rehearsal | None,
    series: Series = Series(),
    prepared: str = OLD,
    days: int = 7,
    each: bool = False,
) -> Step:
    return next_step(Facts(last, series, prepared, days, NOW, each))


def test_what_was_never_seen_to_start_is_rehearsed_when_it_can() -> None:
    assert step(None) is Step.REHEARSE
    assert step(None, prepared="") is step(None, days=0) is Step.WAIT


@pytest.mark.parametrize("outcome", [Outcome.PASSED, Outcome.FAILED])
def test_otherwise_every_few_days(outcome: Outcome) -> None:
    """What lacks other machines only is no better for another adaptation."""
    error = PORTS if outcome is Outcome.FAILED else None
    assert step(rehearsal(outcome, 24 * 6.9, error)) is Step.WAIT
    assert step(rehearsal(outcome, 24 * 7, error)) is Step.REHEARSE


@pytest.mark.parametrize("days", [0, 7])
def test_by_wish_each_new_copy_is_rehearsed_once(days: int) -> None:
    for last in (
        rehearsal(Outcome.PASSED),
        rehearsal(Outcome.FAILED, error=PORTS),
        rehearsal(Outcome.BROKEN_OFF),
    ):
        assert step(last, prepared=NEW, days=days, each=True) is Step.REHEARSE
        assert step(last, prepared=NEW, days=days) is Step.WAIT
        assert step(last, prepared=OLD, days=days, each=True) is Step.WAIT
    assert step(None, days=0, each=True) is Step.REHEARSE
    # What failed is mended first.
    failed = rehearsal(Outcome.FAILED, error=SILENT)
    assert step(failed, prepared=NEW, days=days, each=True) is Step.ADAPT
    assert step(rehearsal(Outcome.PASSED, 24 * 99), days=0, each=True) is Step.WAIT


def test_there_is_room_where_a_processor_is_idle() -> None:
    assert has_room(0.1, 1) and has_room(1.0, 2) and has_room(7, 8)
    assert not has_room(0.9, 1) and not has_room(1.5, 2)


def test_one_that_was_broken_off_is_tried_again_later() -> None:
    assert step(rehearsal(Outcome.BROKEN_OFF, 11)) is Step.WAIT
    assert step(rehearsal(Outcome.BROKEN_OFF, 13)) is Step.REHEARSE


def test_a_failure_leads_to_another_adaptation_then_to_a_deep_run_then_to_people() -> None:
    failed = rehearsal(Outcome.FAILED, error=SILENT, name="one")
    assert step(failed) is Step.ADAPT
    acted = Series("one", 1, NOW.isoformat())
    assert step(failed, acted, prepared="") is Step.WAIT  # it is being adapted
    assert step(failed, acted) is Step.REHEARSE
    again = rehearsal(Outcome.FAILED, error=SILENT, name="two")
    assert step(again, acted) is Step.CHECK
    acted = replace(acted, checked="two")
    assert step(again, acted) is Step.DEEP
    acted = Series("two", 2, (NOW - timedelta(hours=2)).isoformat())
    assert step(again, acted, prepared=OLD) is Step.WAIT  # made before the deep run
    assert step(again, acted, prepared=NEW) is Step.REHEARSE
    third = rehearsal(Outcome.FAILED, error=SILENT, name="three")
    assert step(third, acted) is Step.WAIT
    late = rehearsal(Outcome.FAILED, 24 * 8, SILENT, "three")
    assert step(late, acted) is Step.REHEARSE


def test_what_cannot_even_be_made_ready_is_checked_and_read_again_once() -> None:
    def unready(last: Rehearsal | None, series: Series, prepared: str = "") -> Step:
        return next_step(Facts(last, series, prepared, 7, NOW, unreadable=OLD))

    passed = rehearsal(Outcome.PASSED)
    for last in (None, passed, rehearsal(Outcome.FAILED, error=SILENT)):
        for series in (Series(), Series("one", 1, NOW.isoformat(), "one")):
            assert unready(last, series) is Step.CHECK
            failure = Facts(last, series, "", 7, NOW, unreadable=OLD).failure
            assert unready(last, replace(series, checked=failure)) is Step.DEEP
            done = Series(failure, 2, NOW.isoformat(), failure)
            assert unready(last, done) is Step.WAIT
            # The deep run helped: that is seen at once, however lately an older copy passed.
            assert next_step(Facts(last, done, NEW, 7, NOW)) is Step.REHEARSE
            for error in (SILENT, PORTS):  # and only once
                failed = rehearsal(Outcome.FAILED, -1, error)
                assert next_step(Facts(failed, done, NEW, 7, NOW)) is Step.WAIT
            ended = rehearsal(Outcome.BROKEN_OFF)
            assert next_step(Facts(ended, done, NEW, 7, NOW)) is Step.WAIT
    assert next_step(Facts(passed, Series(), "", 0, NOW, unreadable=OLD)) is Step.WAIT


def test_what_waits_for_a_key_is_not_rehearsed_by_itself() -> None:
    assert starts_alone({}) and starts_alone({"warnings": [{"code": "unknown-device"}]})
    assert not starts_alone({"warnings": [{"code": "locked-system", "text": "x"}]})
