"""Ages of versions over a month: exact, through changes of the clock, gaps and new primaries."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from notfallserver.server.report.ages import Plan, Take, ages_of, target_of
from notfallserver.server.report.months import Month, due_months, month_of, read_month
from notfallserver.server.report.tree import Span
from notfallserver.wire.errors import NotfallError

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = timedelta(hours=1)
BEGIN = datetime(2026, 10, 1, tzinfo=UTC)
DAY = Span(BEGIN, BEGIN + 24 * HOUR)


def hourly(first: datetime, until: datetime, lasts: timedelta = timedelta(0)) -> list[Take]:
    """A version every hour that is there after ``lasts``."""
    found = []
    while first < until:
        found.append(Take(first + lasts, first))
        first += HOUR
    return found


def every(minutes: int) -> list[Plan]:
    return [Plan(BEGIN, minutes)]


def test_a_version_every_hour_is_half_an_hour_old_most_of_the_time() -> None:
    ages = ages_of(DAY, hourly(BEGIN - HOUR, DAY.end), every(60))
    assert (ages.worst_s, ages.median_s, ages.at_end_s) == (3600, 1800, 3600)
    assert (ages.within, ages.without_s, ages.gap_count) == (1, 0, 0)


def test_a_version_counts_from_when_it_was_complete() -> None:
    ages = ages_of(DAY, hourly(BEGIN - 2 * HOUR, DAY.end, timedelta(minutes=30)), every(60))
    assert (ages.worst_s, ages.median_s) == (5400, 3600)
    assert ages.within == 1 and target_of(60) == 7200


def test_a_week_without_versions_is_one_gap_told_from_its_copy_to_the_next() -> None:
    """As when the emergency server was off."""
    span = Span(BEGIN, BEGIN + timedelta(days=30))
    off, on = BEGIN + timedelta(days=10), BEGIN + timedelta(days=17)
    takes = [one for one in hourly(BEGIN - HOUR, span.end) if not off < one.taken < on]
    ages = ages_of(span, takes, every(60))
    assert ages.worst_s == timedelta(days=7).total_seconds()
    assert [(one.begin, one.end) for one in ages.gaps] == [(off, on)]
    assert ages.within == pytest.approx(1 - (7 * 24 - 2) / (30 * 24))
    assert ages.median_s is not None and 1800 < ages.median_s < 3600


def test_time_before_the_first_version_is_not_within_the_plan() -> None:
    ages = ages_of(DAY, hourly(BEGIN + 6 * HOUR, DAY.end), every(60))
    assert ages.without_s == 6 * 3600 and ages.within == 0.75
    assert ages.worst_s == 3600 and ages.gap_count == 0


def test_without_any_version_nothing_has_an_age() -> None:
    ages = ages_of(DAY, [], every(60))
    assert (ages.worst_s, ages.median_s, ages.at_end_s, ages.within) == (None, None, None, 0)
    assert ages.without_s == DAY.seconds


def test_without_a_schedule_nothing_is_judged() -> None:
    ages = ages_of(DAY, [Take(BEGIN - 48 * HOUR, BEGIN - 48 * HOUR)], every(0))
    assert ages.within is None and ages.gaps == () and ages.worst_s == 72 * 3600


def test_a_schedule_counts_from_when_it_was_set() -> None:
    """Every 12 hours until noon, then hourly, while one version comes in 12 hours."""
    takes = [Take(BEGIN - HOUR, BEGIN - HOUR), Take(BEGIN + 11 * HOUR, BEGIN + 11 * HOUR)]
    ages = ages_of(DAY, takes, [*every(720), Plan(BEGIN + 12 * HOUR, 60)])
    assert ages.within == 13 / 24
    assert [(one.begin, one.worst_s) for one in ages.gaps] == [(BEGIN + 11 * HOUR, 13 * 3600)]


@pytest.mark.parametrize(
    ("month", "hours"), [("2026-10", 31 * 24 + 1), ("2026-03", 31 * 24 - 1), ("2028-02", 29 * 24)]
)
def test_a_month_is_as_long_as_its_clock_says(month: str, hours: int) -> None:
    one = read_month(month)
    begin, end = one.begin(BERLIN), one.next.begin(BERLIN)
    assert end - begin == hours * HOUR
    ages = ages_of(Span(begin, end), hourly(begin - HOUR, end), [Plan(begin, 60)])
    assert (ages.worst_s, ages.within) == (3600, 1)


def test_months_follow_each_other_and_belong_to_a_place() -> None:
    assert str(Month(2026, 12).next) == "2027-01" and str(Month(2026, 1).before) == "2025-12"
    moment = datetime(2026, 10, 31, 23, 30, tzinfo=UTC)
    assert month_of(moment, BERLIN) == Month(2026, 11)
    assert month_of(moment, UTC) == Month(2026, 10)


@pytest.mark.parametrize("wrong", ["2026-13", "2026-00", "1999-01", "26-1", "2026-1", "../etc", ""])
def test_what_is_no_month_is_refused(wrong: str) -> None:
    with pytest.raises(NotfallError, match="no month") as refused:
        read_month(wrong)
    assert refused.value.code == "bad-month"


def months(*texts: str) -> list[Month]:
    return [read_month(one) for one in texts]


def test_after_a_downtime_missing_months_are_made_up_for_but_never_the_distant_past() -> None:
    present, began = Month(2026, 11), Month(2020, 1)
    assert due_months(present, began, None, ()) == months("2026-10")
    assert due_months(present, began, Month(2026, 10), ()) == []
    assert due_months(present, began, Month(2031, 1), ()) == months("2026-10")
    assert due_months(present, began, Month(2026, 7), ()) == months("2026-08", "2026-09", "2026-10")
    there = months("2026-09")
    assert due_months(present, began, Month(2026, 7), there) == months("2026-08", "2026-10")
    assert due_months(present, Month(2026, 11), None, ()) == []
    assert due_months(present, None, None, ()) == []
    assert len(due_months(present, began, Month(2020, 1), ())) == 12
