"""Which versions go: examples that people would think of, and what must hold whatever happens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notfallserver.server.cycle.retention.plan import (
    ALWAYS,
    Keep,
    Past,
    Plan,
    plan_retention,
)
from notfallserver.server.cycle.retention.rules import NAMES, Rules, checked, own_rules, rules_of
from notfallserver.server.pool.layout import make_stamp, stamp_time
from notfallserver.server.pool.proof import Standing
from notfallserver.server.settings import Settings
from notfallserver.wire.errors import NotfallError

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
NOTHING = Rules(
    all_hours=0, hourly=0, daily=0, weekly=0, monthly=0, yearly=0, proven=1, floor_days=1
)


def past(*moments: datetime) -> list[Past]:
    return [Past(make_stamp(one)) for one in moments]


def every(step: timedelta, count: int, until: datetime = NOW) -> list[Past]:
    return past(*(until - step * number for number in range(count)))


def days_of(plan: Plan, keep: Keep) -> list[str]:
    return [stamp[:8] for stamp, why in plan.kept.items() if keep in why]


def test_each_rule_keeps_the_last_of_its_stretch() -> None:
    known = every(timedelta(minutes=30), 48 * 60)  # sixty days
    rules = Rules(24, 48, 14, 8, 2, 1, 1, 1)
    plan = plan_retention(known, rules, NOW, zone=BERLIN)
    assert len([one for one, why in plan.kept.items() if Keep.ALL in why]) == 49
    assert len(days_of(plan, Keep.HOURLY)) == 48
    assert days_of(plan, Keep.DAILY) == [f"202611{day:02}" for day in range(14, 28)]
    last_of_day = stamp_time(next(one for one in plan.kept if one.startswith("20261114")))
    assert last_of_day.astimezone(BERLIN).strftime("%H:%M") == "23:30"
    # Sundays, and the present week's newest
    assert days_of(plan, Keep.WEEKLY) == [
        *("20261011", "20261018", "20261025", "20261101", "20261108", "20261115", "20261122"),
        "20261127",
    ]
    assert days_of(plan, Keep.MONTHLY) == ["20261031", "20261127"]
    assert days_of(plan, Keep.YEARLY) == ["20261127"]
    assert len(plan.kept) + len(plan.going) == len(known)


def test_an_hour_that_occurs_twice_is_two() -> None:
    """Clocks went back in Berlin at 01:00 UTC on 25 October: 02:xx was there twice."""
    begin = datetime(2026, 10, 25, 0, 10, tzinfo=UTC)
    known = past(*(begin + timedelta(minutes=20 * number) for number in range(9)))
    rules = Rules(0, 3, 0, 0, 0, 0, 1, 1)
    plan = plan_retention(known, rules, begin + timedelta(hours=4), zone=BERLIN)
    assert [stamp[9:13] for stamp, why in plan.kept.items() if Keep.HOURLY in why] == [
        "0050",
        "0150",
        "0250",
    ]


@pytest.mark.parametrize("day", [datetime(2026, 3, 29, 21, 30, tzinfo=UTC)])
def test_days_are_those_of_the_clock_on_the_wall(day: datetime) -> None:
    """In summer 21:30 UTC is 23:30 in Berlin, 22:30 UTC is the next day's first hour."""
    later = day + timedelta(hours=1)
    rules = Rules(0, 0, 5, 0, 0, 0, 1, 1)
    assert plan_retention(past(day, later), rules, later, zone=BERLIN).going == ()
    assert plan_retention(past(day, later), rules, later, zone=UTC).going == (make_stamp(day),)


def test_what_holds_always() -> None:
    """With no rule at all, there are the newest, the newest sound, proven ones, pinned and used."""
    moments = [NOW - timedelta(minutes=number) for number in range(9)]
    stamps = [make_stamp(one) for one in moments]
    known = [
        Past(stamps[0], sound=False),
        Past(stamps[1], Standing.REFUTED),
        Past(stamps[2]),
        Past(stamps[3], Standing.PROVEN, sound=False),
        Past(stamps[4], Standing.PROVEN),
        Past(stamps[5], Standing.PROVEN),
        Past(stamps[6], pinned=True),
        Past(stamps[7], in_use=True),
        Past(stamps[8]),
    ]
    plan = plan_retention(known, NOTHING, NOW)
    assert plan.kept == {
        stamps[7]: (Keep.IN_USE,),
        stamps[6]: (Keep.PINNED,),
        stamps[4]: (Keep.NEWEST_PROVEN, Keep.PROVEN),
        stamps[2]: (Keep.FLOOR,),  # of this day the newest that is fit for it
        stamps[1]: (Keep.NEWEST_SOUND,),
        stamps[0]: (Keep.NEWEST,),
    }
    assert plan.going == plan.spare == (stamps[8], stamps[5], stamps[3])
    two = plan_retention(known, Rules(0, 0, 0, 0, 0, 0, 2, 1), NOW)
    assert two.kept[stamps[5]] == (Keep.PROVEN,)
    assert [stamp for stamp in stamps if not plan.may_be_deleted(stamp)] == [
        *(stamps[2], stamps[3], stamps[5], stamps[8]),
    ]


def test_a_version_that_did_not_start_stands_for_its_day_only_alone() -> None:
    yesterday = NOW - timedelta(days=1)
    bad = Past(make_stamp(yesterday), Standing.REFUTED)
    good = Past(make_stamp(yesterday - timedelta(hours=2)))
    rules = Rules(0, 0, 7, 0, 0, 0, 1, 1)
    assert plan_retention([*past(NOW), bad, good], rules, NOW, zone=UTC).going == (bad.stamp,)
    assert plan_retention([*past(NOW), bad], rules, NOW, zone=UTC).going == ()


def test_a_primary_that_is_not_copied_any_more_keeps_its_past() -> None:
    known = every(timedelta(hours=1), 400)
    then = plan_retention(known, Rules(), NOW, zone=BERLIN)
    later = plan_retention(known, Rules(), NOW + timedelta(days=3650), zone=BERLIN)
    assert later == then and len(then.kept) > 50


def test_where_the_newest_is_of_the_future_nothing_goes() -> None:
    """The clock went back years, or a version was made while it was ahead."""
    known = every(timedelta(hours=1), 400)
    plan = plan_retention(known, Rules(), NOW - timedelta(days=900), zone=BERLIN)
    assert plan.going == () and len(plan.kept) == 400
    assert set(plan.kept.values()) >= {(Keep.CLOCK,)}
    one = plan_retention([*known, *past(NOW + timedelta(hours=2))], Rules(), NOW, zone=BERLIN)
    assert one.going == () and one.spare
    near = plan_retention([*known, *past(NOW + timedelta(minutes=5))], Rules(), NOW, zone=BERLIN)
    assert near.going


def test_a_clock_that_was_ahead_for_a_while_wipes_nothing() -> None:
    """Ten years ahead for a day: of the years before, every hour and day that counted is there."""
    known = every(timedelta(hours=1), 200)
    ahead = NOW + timedelta(days=3650)
    plan = plan_retention([*known, *every(timedelta(hours=1), 5, ahead)], Rules(), ahead, zone=UTC)
    before = plan_retention(known, Rules(), NOW, zone=UTC)
    assert len(set(before.kept) - set(plan.kept)) <= 5 + 2  # they moved on by what was made since


def test_while_it_is_down_nothing_goes_by_rules() -> None:
    known = every(timedelta(hours=1), 400)
    plan = plan_retention(known, Rules(), NOW, normal=False, zone=UTC)
    normal = plan_retention(known, Rules(), NOW, zone=UTC)
    assert plan.going == () and plan.spare == normal.spare
    assert all(plan.kept[stamp] == (Keep.NOT_NORMAL,) for stamp in normal.going)


# -- whatever happens ----------------------------------------------------------------------------

counts = st.integers(0, 6)
some_rules = st.builds(
    Rules,
    all_hours=st.integers(0, 48),
    hourly=counts,
    daily=counts,
    weekly=counts,
    monthly=counts,
    yearly=counts,
    proven=st.integers(1, 4),
    floor_days=st.integers(1, 4),
)
versions = st.lists(
    st.builds(
        Past,
        stamp=st.integers(0, 3 * 365 * 24 * 4).map(
            lambda quarter: make_stamp(NOW - timedelta(minutes=15 * quarter))
        ),
        standing=st.sampled_from(Standing),
        sound=st.booleans(),
        pinned=st.integers(0, 9).map(lambda one: one == 0),
        in_use=st.integers(0, 9).map(lambda one: one == 0),
    ),
    max_size=60,
    unique_by=lambda one: one.stamp,
)


def left_of(known: Sequence[Past], gone: Sequence[str]) -> list[Past]:
    return [one for one in known if one.stamp not in gone]


@settings(max_examples=150, deadline=None)
@given(versions, some_rules, st.booleans(), st.integers(-2000, 2000))
def test_what_must_never_go(known: list[Past], rules: Rules, normal: bool, days: int) -> None:
    plan = plan_retention(known, rules, NOW + timedelta(days=days), normal, BERLIN)
    assert {*plan.kept, *plan.going} == {one.stamp for one in known}
    assert not {*plan.kept} & {*plan.going}
    assert {*plan.going} <= {*plan.spare}
    assert all({*why} & ALWAYS for stamp, why in plan.kept.items() if stamp not in plan.spare)
    newest_first = sorted(known, key=lambda one: one.stamp, reverse=True)
    proven = [one.stamp for one in newest_first if one.proven]
    must = {one.stamp for one in newest_first[:1]}
    must |= {one.stamp for one in known if one.pinned or one.in_use}
    must |= {*[one.stamp for one in newest_first if one.sound][:1], *proven[: rules.proven]}
    assert not must & {*plan.spare}
    assert not {*must} & {*plan.going}


@settings(max_examples=150, deadline=None)
@given(versions, some_rules, st.sampled_from([UTC, BERLIN]))
def test_to_remove_twice_is_to_remove_once(known: list[Past], rules: Rules, zone: ZoneInfo) -> None:
    plan = plan_retention(known, rules, NOW, zone=zone)
    after = plan_retention(left_of(known, plan.going), rules, NOW, zone=zone)
    assert after.going == () and after.kept == plan.kept
    room = plan_retention(left_of(known, plan.spare), rules, NOW, zone=zone)
    assert room.spare == ()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 60 * 24 * 40), min_size=1, max_size=60), some_rules, st.integers(0, 59)
)
def test_removing_as_one_goes_loses_nothing_that_counts_at_the_end(
    gaps: list[int], rules: Rules, every_nth: int
) -> None:
    moments = [NOW]
    for gap in gaps:
        moments.append(moments[-1] + timedelta(minutes=gap))
    kept: list[Past] = []
    for number, moment in enumerate(moments):
        kept += past(moment)
        if number % (every_nth + 1) == 0:
            going = plan_retention(kept, rules, moment, zone=BERLIN).going
            kept = left_of(kept, going)
    at_the_end = plan_retention(past(*moments), rules, moments[-1], zone=BERLIN)
    assert {*at_the_end.kept} <= {one.stamp for one in kept}


# -- rules ---------------------------------------------------------------------------------------


def test_a_primary_follows_the_settings_but_for_what_is_its_own() -> None:
    base = Settings(keep_daily=30)
    assert rules_of(base, {}) == Rules(daily=30)
    notes = {"retention": {"weekly": 1, "of a newer server": 3}}
    assert rules_of(base, notes) == Rules(daily=30, weekly=1)
    assert own_rules(notes) == {"weekly": 1} and own_rules({"retention": "?"}) == {}
    assert set(NAMES) == {key.removeprefix("keep_") for key in base.model_dump() if "keep_" in key}
    assert Rules() == rules_of(Settings(), {})


@pytest.mark.parametrize("wish", [{"proven": 0}, {"floor_days": 0}, {"daily": 9999}, {"dayly": 1}])
def test_rules_that_make_no_sense_are_refused(wish: dict[str, int]) -> None:
    with pytest.raises(NotfallError) as refused:
        checked(wish)
    assert refused.value.code == "bad-rules"
