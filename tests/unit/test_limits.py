"""Limits of a primary: how they are written, which rate holds when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notfallserver.server.cycle.normal.limit_text import (
    Window,
    rate_text,
    read_rate,
    read_window,
    window_text,
)
from notfallserver.server.cycle.normal.limits import (
    DAY,
    WEEK,
    Limits,
    Wish,
    changed,
    minute_of_week,
    read_limits,
)
from notfallserver.server.cycle.normal.line import SeenLine, judge, read_line
from notfallserver.wire.allowance import Allowance, read_allowance
from notfallserver.wire.errors import NotfallError

BERLIN = ZoneInfo("Europe/Berlin")
MBIT = 125_000


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10Mbit", 1_250_000),
        ("10 mbit/s", 1_250_000),
        ("1.5Gbit", 187_500_000),
        ("100MB", 100e6),
        ("100MiB/s", 104_857_600),
        ("512kB", 512_000),
        ("none", 0),
    ],
)
def test_a_rate_is_read_with_its_unit(text: str, rate: float) -> None:
    assert read_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["10M", "10Mb", "10", "", "-1Mbit", "0Mbit", "1kbit", "99Tbit", "Mbit", "1e9B"]
)
def test_a_rate_that_may_mean_two_things_or_nothing_is_refused(text: str) -> None:
    with pytest.raises(NotfallError) as caught:
        read_rate(text)
    assert caught.value.code == "bad-limits"


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("Mon-Fri 08:00-18:00=2Mbit", "Mon-Fri 08:00-18:00=2Mbit"),
        ("mo-fr 8:00 - 18:00 = 2Mbit/s", "Mon-Fri 08:00-18:00=2Mbit"),
        ("Sat,Sun 00:00-24:00=none", "Sat-Sun 00:00-00:00=none"),
        ("Fri-Mon 22:00-06:00=1MB", "Mon,Fri-Sun 22:00-06:00=8Mbit"),
        ("22:00-06:00=50Mbit", "22:00-06:00=50Mbit"),
        ("Mi 12:00-13:00=64kbit", "Wed 12:00-13:00=64kbit"),
    ],
)
def test_windows_are_kept_in_one_way_of_writing(text: str, canonical: str) -> None:
    window = read_window(text)
    assert window_text(window) == canonical
    assert read_window(canonical) == window


@pytest.mark.parametrize(
    "text",
    ["", "08:00-18:00", "Foo 08:00-18:00=2Mbit", "08:60-18:00=2Mbit", "08:00-25:00=2Mbit",
     "Mon--Tue 08:00-18:00=2Mbit", "08:00-18:00=2M", "Mon-Fri=2Mbit"],
)  # fmt: skip
def test_a_window_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(NotfallError) as caught:
        read_window(text)
    assert caught.value.code == "bad-limits"


@given(st.integers(8000, 10**12))
def test_a_rate_that_is_written_is_read_again(rate: int) -> None:
    assert abs(read_rate(rate_text(rate)) - rate) <= rate * 1e-5


def rate(limits: Limits, text: str) -> float:
    """At ``Mon 08:00``."""
    return limits.allowance(datetime.strptime(f"2026-11-{text}", "%Y-%m-%d %H:%M")).rate / MBIT


def limited(general: str, *windows: str) -> Limits:
    return changed(Limits(), Wish(rate=general, windows=windows))


def test_a_window_replaces_the_general_rate_while_it_holds() -> None:
    office = limited("20Mbit", "Mon-Fri 08:00-18:00=2Mbit")
    assert rate(office, "23 07:59") == 20
    assert rate(office, "23 08:00") == 2
    assert rate(office, "23 17:59") == 2
    assert rate(office, "23 18:00") == 20
    assert rate(office, "28 12:00") == 20  # Saturday


def test_a_window_past_midnight_belongs_to_the_day_on_which_it_began() -> None:
    night = limited("2Mbit", "Fri 22:00-06:00=none", "Sun 23:00-01:00=50Mbit")
    assert rate(night, "27 21:59") == 2
    assert rate(night, "27 23:00") == 0
    assert rate(night, "28 05:59") == 0
    assert rate(night, "28 06:00") == 2
    assert rate(night, "27 05:00") == 2  # Thursday's night is not named
    assert rate(night, "29 23:30") == 50
    assert rate(night, "23 00:30") == 50  # Monday, and the week begins anew
    assert rate(night, "23 01:00") == 2


def test_where_windows_overlap_the_smallest_wins_and_no_limit_is_the_largest() -> None:
    both = limited("1Mbit", "08:00-18:00=10Mbit", "12:00-13:00=3Mbit", "12:30-20:00=none")
    assert rate(both, "23 11:59") == 10
    assert rate(both, "23 12:15") == 3
    assert rate(both, "23 12:45") == 3
    assert rate(both, "23 13:00") == 10
    assert rate(both, "23 19:00") == 0
    assert rate(both, "23 20:00") == 1


def test_the_clock_on_the_wall_decides_when_clocks_are_changed() -> None:
    early = limited("none", "02:15-02:45=2Mbit")

    def minutes(day: str) -> int:
        """How many minutes of this night the window holds."""
        begin = datetime.fromisoformat(f"{day}T00:00+01:00").astimezone(UTC)
        instants = (begin + timedelta(minutes=one) for one in range(5 * 60))
        return sum(bool(early.allowance(one.astimezone(BERLIN)).rate) for one in instants)

    assert minutes("2026-03-28") == 30
    assert minutes("2026-03-29") == 0  # 02:00 to 03:00 does not exist
    assert minutes("2026-10-25") == 60  # and here it comes twice


@given(
    st.lists(
        st.builds(
            Window,
            st.frozensets(st.integers(0, 6), min_size=1),
            st.integers(0, DAY - 1),
            st.integers(0, DAY - 1),
            st.sampled_from([0.0, 1e6, 2e6]),
        ),
        max_size=4,
    ).map(tuple),
    st.integers(0, WEEK - 1),
)
def test_the_played_week_is_the_week_as_it_holds(windows: tuple[Window, ...], minute: int) -> None:
    limits = Limits(rate=5e6, windows=windows)
    turns = limits.week()
    assert turns[0][0] == 0
    assert [held for turn, held in turns if turn <= minute][-1] == limits.rate_at(minute)


def test_wishes_change_only_what_they_name_and_survive_the_notes() -> None:
    limits = changed(
        Limits(),
        Wish(
            rate="10Mbit",
            windows=("Mon 08:00-09:00=1Mbit",),
            read_rate="100MB",
            pause_load="8",
            pause_pressure="40%",
            pause_minutes=5,
        ),
    )
    assert read_limits(limits.to_json()) == limits
    assert changed(limits, Wish()) == limits
    more = changed(limits, Wish(rate="none", windows=("none",)))
    assert (more.rate, more.windows, more.read_rate) == (0, (), 100e6)
    monday = datetime(2026, 11, 23, 8, 30)
    assert limits.allowance(monday) == Allowance(MBIT, 100e6, 8, 40, 300)
    assert Limits().allowance(monday) == Allowance()
    assert read_limits(None) == Limits()
    assert len(limits.in_words()) == 6


@pytest.mark.parametrize(
    "wish",
    [
        Wish(pause_load="-1"),
        Wish(pause_load="nan"),
        Wish(pause_pressure="100"),
        Wish(pause_pressure="much"),
        Wish(pause_minutes=0),
        Wish(windows=("08:00-09:00=1Mbit",) * 33),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(wish: Wish) -> None:
    with pytest.raises(NotfallError) as caught:
        changed(Limits(), wish)
    assert caught.value.code == "bad-limits"


def test_what_an_agent_is_told_is_read_with_care() -> None:
    told = Allowance(1e6, 2e6, 8, 40, 60)
    assert read_allowance(told.to_json()) == told
    values: list[object] = ["1", True, -1, float("nan"), 1e300]
    bodies: list[object] = [None, [], "x", *({"rate": one} for one in values)]
    for odd in bodies:
        assert read_allowance(odd) == Allowance()


def test_a_rate_that_our_limit_held_down_hides_no_faster_one() -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    fast = judge(None, 10e6, 0, now)
    assert fast == SeenLine(10e6, "2026-11-23T00:00:00+00:00")
    assert read_line(fast.to_json()) == fast
    assert judge(fast, 0.99e6, 1e6, now) == fast
    assert judge(fast, 0.5e6, 1e6, now) == SeenLine(0.5e6, fast.at)  # slower by itself
    assert judge(None, 0.99e6, 1e6, now) == SeenLine(0.99e6, fast.at, limited=True)
    for odd in (None, 0, -1, "1", True, 1e15):
        assert judge(fast, odd, 0, now) == fast


def test_a_minute_of_the_week_begins_on_monday() -> None:
    assert minute_of_week(datetime(2026, 11, 23, 0, 1)) == 1
    assert minute_of_week(datetime(2026, 11, 29, 23, 59)) == WEEK - 1
