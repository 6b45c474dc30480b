"""The forecast: how old the newest version will get."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from notfallserver.server.cycle.normal.forecast import Outlook, Past, foresee, in_words
from notfallserver.server.cycle.normal.limits import Limits, Wish, changed

MBIT = 125_000
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
OFFICE = changed(Limits(), Wish(windows=("Mon-Fri 08:00-18:00=2Mbit",)))


def hourly(sent: int, seconds: float, count: int = 10) -> list[Past]:
    """Runs that end each hour, newest first; as many bytes on the line as on the disks, twice."""
    ends = [NOW - timedelta(hours=one) for one in range(count)]
    return [Past(end - timedelta(seconds=seconds), end, 2 * sent, sent) for end in ends]


def test_before_the_second_version_nothing_is_known() -> None:
    assert foresee([], 60, Limits(), 0) is None
    assert foresee(hourly(10**9, 100, 1), 60, Limits(), MBIT) is None
    assert "second" in in_words(None)


def test_on_a_fast_line_the_age_is_the_schedule_and_the_run() -> None:
    """36 MB an hour on 100 Mbit/s: 3 s of sending, 12 s of the run's own."""
    told = foresee(hourly(36_000_000, 15), 60, Limits(), 100 * MBIT)
    assert told is not None and told.outlook is Outlook.OK
    assert told.send_rate == pytest.approx(10_000)
    assert told.change_rate == pytest.approx(20_000)
    assert told.worst_age_s == pytest.approx(3600 + 15, abs=1)
    assert told.run_s == pytest.approx(15, abs=1)
    assert "at most 61 min" in in_words(told)


def test_while_a_run_sends_more_is_written() -> None:
    """Half the line is needed: an hour's changes take half an hour, in which come more, and so on:
    altogether an hour."""
    told = foresee(hourly(450_000_000, 1800), 60, Limits(), 2 * MBIT)
    assert told is not None and told.worst_age_s is not None
    assert told.send_rate == pytest.approx(MBIT)
    assert told.worst_age_s == pytest.approx(7200, rel=0.01)
    assert told.outlook is Outlook.OK


def test_a_line_that_cannot_keep_up_is_told_with_figures() -> None:
    told = foresee(hourly(450_000_000, 3600), 60, Limits(), MBIT)
    assert told is not None
    assert (told.outlook, told.worst_age_s) == (Outlook.CANNOT_KEEP_UP, None)
    assert "cannot keep up: 1 Mbit/s are needed, 1 Mbit/s are there" in in_words(told)
    limited = changed(Limits(), Wish(rate="512kbit"))
    told = foresee(hourly(450_000_000, 60), 60, limited, 1000 * MBIT)
    assert told is not None and told.outlook is Outlook.CANNOT_KEEP_UP


def test_a_window_too_small_for_the_day_shows_in_the_worst_age_only() -> None:
    """3 Mbit/s are needed; by day there are 2, by night 100: the last run of the morning is not
    done before the evening."""
    told = foresee(hourly(1_350_000_000, 120), 60, OFFICE, 100 * MBIT)
    assert told is not None and told.worst_age_s is not None and told.usual_age_s is not None
    assert told.outlook is Outlook.LATE
    assert 10 * 3600 < told.worst_age_s < 12 * 3600
    assert told.usual_age_s < 4000
    assert in_words(told).startswith("WARNING: runs take longer than the schedule allows")
    by_night = foresee(hourly(1_350_000_000, 120), 60, Limits(), 100 * MBIT)
    assert by_night is not None and by_night.outlook is Outlook.OK


def test_without_a_schedule_the_duration_is_told() -> None:
    told = foresee(hourly(36_000_000, 15), 0, Limits(), 100 * MBIT)
    assert told is not None and told.outlook is Outlook.ON_REQUEST
    assert told.run_s == pytest.approx(15, abs=1)
    assert "only on request; a run takes about 1 min" in in_words(told)


def test_a_line_that_was_not_measured_is_at_least_as_fast_as_a_run() -> None:
    told = foresee(hourly(36_000_000, 10), 60, Limits(), 0)
    assert told is not None and told.line_rate == pytest.approx(3_600_000)
    idle = foresee(hourly(0, 1), 5, Limits(), 0)
    assert idle is not None and idle.worst_age_s == pytest.approx(301, abs=1)
    assert idle.outlook is Outlook.OK


def test_clocks_set_back_and_a_thousand_runs_do_no_harm() -> None:
    backward = list(reversed(hourly(1000, 1)))
    assert foresee(backward, 60, Limits(), 0) is None
    told = foresee(hourly(1000, 0, 1000), 1, OFFICE, 8000)
    assert told is not None and told.outlook is Outlook.OK
