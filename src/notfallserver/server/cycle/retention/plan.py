"""Which versions go, and which rule keeps the others. Pure.

**Ages are counted from the newest version**, and a rule for days counts the days in which there are
versions. So the past of a primary that is not copied any more stays, and a clock that runs ahead
wipes nothing. Where the newest version is of the future by that clock, no rule removes anything:
either the clock is wrong now, or it was then.

**Hours, days and weeks are those of the server's clock on the wall**; in the night when clocks are
set back the hour that occurs twice counts as two. Of each the last version is kept, so that what is
removed from time to time comes to the same as what would be removed at the end. One that is damaged
or did not start in a rehearsal stands for its day only where there is no other.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from enum import StrEnum

from notfallserver.server.cycle.retention.rules import Rules
from notfallserver.server.pool.layout import stamp_time
from notfallserver.server.pool.proof import Standing

AHEAD = timedelta(hours=1)
"""A version that is later than now by more than this tells of a clock that is or was wrong."""


class Keep(StrEnum):
    """Why a version stays; the first ones hold whatever happens."""

    NEWEST = "newest"
    NEWEST_SOUND = "newest-sound"
    NEWEST_PROVEN = "newest-proven"
    PROVEN = "proven"  # of the minimum number of proven ones
    PINNED = "pinned"
    IN_USE = "in-use"
    FLOOR = "floor"  # the last one of a day of which one must stay even when the pool fills up
    ALL = "all"
    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    YEARLY = "yearly"
    NOT_NORMAL = "not-normal"  # nothing goes by rules while the primary is down
    CLOCK = "clock"  # nothing goes by rules while the clock can't be believed


ALWAYS = frozenset(
    {
        Keep.NEWEST,
        Keep.NEWEST_SOUND,
        Keep.NEWEST_PROVEN,
        Keep.PROVEN,
        Keep.PINNED,
        Keep.IN_USE,
        Keep.FLOOR,
    }
)
"""What holds also when the pool is nearly full."""
BY_HAND = ALWAYS - {Keep.PROVEN, Keep.FLOOR}
"""What a person can't delete either."""


@dataclass(frozen=True)
class Past:
    """A version, as far as it matters here."""

    stamp: str
    standing: Standing = Standing.UNPROVEN
    sound: bool = True
    pinned: bool = False
    in_use: bool = False

    @property
    def proven(self) -> bool:
        return self.sound and self.standing is Standing.PROVEN

    @property
    def trusted(self) -> bool:
        """Fit to stand for its day."""
        return self.sound and self.standing is not Standing.REFUTED


@dataclass(frozen=True)
class Plan:
    """``kept`` by stamp with all that keeps it, ``going`` are the stamps to remove; both oldest
    first. ``spare``: what may go when the pool is nearly full, oldest first."""

    kept: dict[str, tuple[Keep, ...]] = field(default_factory=dict)
    going: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()

    def may_be_deleted(self, stamp: str) -> tuple[Keep, ...]:
        """What forbids to delete it by hand; empty: nothing."""
        return tuple(one for one in self.kept.get(stamp, ()) if one in BY_HAND)


Bucket = Callable[[datetime], Hashable]


def plan_retention(
    past: Sequence[Past],
    rules: Rules,
    now: datetime,
    normal: bool = True,
    zone: tzinfo | None = None,
) -> Plan:
    """``normal``: the primary is at work. ``zone`` of the clock on the wall; None: the server's.

    ``past`` in any order, each stamp once.
    """
    known = sorted(past, key=lambda one: one.stamp, reverse=True)
    if not known:
        return Plan()
    why: dict[str, set[Keep]] = {one.stamp: set() for one in known}
    _always(known, rules, why, zone)
    _by_rules(known, rules, why, zone)
    going = [one.stamp for one in reversed(known) if not why[one.stamp]]
    waits = None
    if not normal:
        waits = Keep.NOT_NORMAL
    elif stamp_time(known[0].stamp) - now > AHEAD:
        waits = Keep.CLOCK
    if waits is not None:
        for stamp in going:
            why[stamp].add(waits)
        going = []
    order = list(Keep)
    kept = {
        one.stamp: tuple(sorted(why[one.stamp], key=order.index))
        for one in reversed(known)
        if why[one.stamp]
    }
    spare = tuple(one.stamp for one in reversed(known) if not why[one.stamp] & ALWAYS)
    return Plan(kept, tuple(going), spare)


def _always(
    known: Sequence[Past], rules: Rules, why: dict[str, set[Keep]], zone: tzinfo | None
) -> None:
    why[known[0].stamp].add(Keep.NEWEST)
    for one in known:
        if one.pinned:
            why[one.stamp].add(Keep.PINNED)
        if one.in_use:
            why[one.stamp].add(Keep.IN_USE)
    sound = [one for one in known if one.sound]
    if sound:
        why[sound[0].stamp].add(Keep.NEWEST_SOUND)
    proven = [one for one in known if one.proven]
    if proven:
        why[proven[0].stamp].add(Keep.NEWEST_PROVEN)
    for one in proven[: rules.proven]:
        why[one.stamp].add(Keep.PROVEN)
    _keep_last(known, rules.floor_days, Keep.FLOOR, _day(zone), why)


def _by_rules(
    known: Sequence[Past], rules: Rules, why: dict[str, set[Keep]], zone: tzinfo | None
) -> None:
    since = stamp_time(known[0].stamp) - timedelta(hours=rules.all_hours)
    if rules.all_hours:
        for one in known:
            if stamp_time(one.stamp) >= since:
                why[one.stamp].add(Keep.ALL)
    for keep, count, bucket in (
        (Keep.HOURLY, rules.hourly, _hour(zone)),
        (Keep.DAILY, rules.daily, _day(zone)),
        (Keep.WEEKLY, rules.weekly, _week(zone)),
        (Keep.MONTHLY, rules.monthly, _month(zone)),
        (Keep.YEARLY, rules.yearly, _year(zone)),
    ):
        _keep_last(known, count, keep, bucket, why)


def _keep_last(
    known: Sequence[Past], count: int, keep: Keep, bucket: Bucket, why: dict[str, set[Keep]]
) -> None:
    """The last trusted version, else the last, of each of the ``count`` newest buckets."""
    chosen: dict[Hashable, Past] = {}
    for one in known:
        key = bucket(stamp_time(one.stamp))
        if key not in chosen:
            if len(chosen) == count:
                break
            chosen[key] = one
        elif one.trusted and not chosen[key].trusted:
            chosen[key] = one
    for one in chosen.values():
        why[one.stamp].add(keep)


def _hour(zone: tzinfo | None) -> Bucket:
    def key(moment: datetime) -> Hashable:
        local = moment.astimezone(zone)
        return local.date(), local.hour, local.utcoffset()

    return key


def _day(zone: tzinfo | None) -> Bucket:
    return lambda moment: moment.astimezone(zone).date()


def _week(zone: tzinfo | None) -> Bucket:
    return lambda moment: tuple(moment.astimezone(zone).isocalendar())[:2]


def _month(zone: tzinfo | None) -> Bucket:
    def key(moment: datetime) -> Hashable:
        local = moment.astimezone(zone)
        return local.year, local.month

    return key


def _year(zone: tzinfo | None) -> Bucket:
    return lambda moment: moment.astimezone(zone).year
