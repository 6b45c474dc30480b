"""How old the newest version of a primary will get, from how its last runs went (pure).

What the last runs sent in the time they covered is the mean need of the line; a week is played
through with it: after each run the schedule's pause, then the run's own time (reading, freezing,
sealing), then sending at what line and limits give at that hour, while more is being written. The
age is counted as the lists show it: from one version's seal to the next one's.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from statistics import median

from notfallserver.server.cycle.normal.limit_text import line_text
from notfallserver.server.cycle.normal.limits import WEEK, Limits, minute_of_week
from notfallserver.server.pool.version import Manifest

RUNS = 30
"""So many of the last versions tell the change rate."""
_FULL = 0.95
"""A line that is needed more than this share of its time does not catch up after a disturbance."""
_PLAYED_S = 2 * WEEK * 60


class Outlook(StrEnum):
    """``late``: it keeps up, but not with the schedule."""

    OK = "ok"
    LATE = "late"
    CANNOT_KEEP_UP = "cannot-keep-up"
    ON_REQUEST = "on-request"


@dataclass(frozen=True)
class Past:
    """One run: when it began and ended, bytes changed on the disks and bytes on the line."""

    began: datetime
    ended: datetime
    changed: int
    sent: int


@dataclass(frozen=True)
class Forecast:
    """Bytes a second, seconds. ``line`` is what is measured and limited together, in the mean."""

    outlook: Outlook
    runs: int
    change_rate: float
    send_rate: float
    line_rate: float
    run_s: float
    usual_age_s: float | None = None
    worst_age_s: float | None = None


def past_runs(manifests: Sequence[Manifest]) -> list[Past]:
    """The replications among the newest versions, in the same order."""
    return [
        Past(
            datetime.fromisoformat(one.started_at),
            datetime.fromisoformat(one.sealed_at),
            one.bytes_changed,
            one.bytes_sent,
        )
        for one in manifests
        if one.kind == "replication"
    ]


def foresee(
    past: Sequence[Past], schedule_minutes: int, limits: Limits, line_rate: float
) -> Forecast | None:
    """The forecast, newest run first; None before the second version. ``line_rate`` 0: unknown."""
    seconds = [(new.ended - old.ended).total_seconds() for new, old in zip(past, past[1:])]
    covered = sum(one for one in seconds if one > 0)
    later = [run for run, one in zip(past, seconds) if one > 0]
    if not covered:
        return None
    change_rate = sum(run.changed for run in later) / covered
    need = sum(run.sent for run in later) / covered
    line = line_rate or max(run.sent / max(_seconds(run), 1.0) for run in past)
    own = median(_own_seconds(run, limits, line) for run in later)
    week = _Week(limits, line)
    mean = week.mean()
    if need and need > mean * _FULL:
        return Forecast(
            Outlook.CANNOT_KEEP_UP, len(later), change_rate, need, mean, _endless(own, need, mean)
        )
    if not schedule_minutes:
        run_s = own + need * (covered / len(later)) / (mean or 1.0)
        return Forecast(Outlook.ON_REQUEST, len(later), change_rate, need, mean, run_s)
    pause = schedule_minutes * 60.0
    ages = _ages(week, need, own, pause)
    worst, usual = max(ages), median(ages)
    late = worst - pause > max(pause, 60.0)
    return Forecast(
        Outlook.LATE if late else Outlook.OK,
        len(later),
        change_rate,
        need,
        mean,
        usual - pause,
        usual,
        worst,
    )


def _seconds(run: Past) -> float:
    return max(0.0, (run.ended - run.began).total_seconds())


def _own_seconds(run: Past, limits: Limits, line: float) -> float:
    """What the run took apart from sending, judged by the rate that holds at such an hour."""
    limit = limits.rate_at(minute_of_week(run.began.astimezone()))
    rate = min(line, limit) if limit else line
    return max(0.0, _seconds(run) - (run.sent / rate if rate else 0.0))


def _endless(own: float, need: float, mean: float) -> float:
    """How long a run of an hour's changes would take on a line that can't keep up."""
    return own + need * 3600 / mean if mean else own


class _Week:
    """What the line gives in each minute of a week, played again and again."""

    def __init__(self, limits: Limits, line: float) -> None:
        turns = limits.week()
        self._begins = [minute * 60.0 for minute, _ in turns]
        self._rates = [min(line, limit) if limit else line for _, limit in turns]

    def at(self, moment: float) -> tuple[float, float]:
        """The rate at a moment, and until when it holds."""
        week, within = divmod(moment, WEEK * 60.0)
        place = bisect_right(self._begins, within) - 1
        ends = self._begins[place + 1] if place + 1 < len(self._begins) else WEEK * 60.0
        return self._rates[place], week * WEEK * 60.0 + ends

    def mean(self) -> float:
        ends = [*self._begins[1:], WEEK * 60.0]
        spans = zip(self._begins, ends, self._rates, strict=True)
        return sum((end - begin) * rate for begin, end, rate in spans) / (WEEK * 60.0)


def _ages(week: _Week, need: float, own: float, pause: float) -> list[float]:
    """How old the newest version is each time when the next one is sealed."""
    sealed, ages = 0.0, []
    while sealed < _PLAYED_S:
        begins = sealed + pause + own
        ends = _sent(week, begins, need * (begins - sealed), need)
        ages.append(ends - sealed)
        sealed = ends
    return ages


def _sent(week: _Week, moment: float, waiting: float, need: float) -> float:
    """When all that waits, and what is written meanwhile, has been sent."""
    while waiting > 0 and moment < 2 * _PLAYED_S:
        rate, until = week.at(moment)
        gain = rate - need
        if gain > 0 and waiting / gain <= until - moment:
            return moment + waiting / gain
        waiting -= gain * (until - moment)
        moment = until
    return moment


def in_words(forecast: Forecast | None) -> str:
    """One sentence for a person."""
    if forecast is None:
        return "known after the second version"
    base = f"by the last {forecast.runs} run" + ("s" if forecast.runs > 1 else "")
    if forecast.outlook is Outlook.CANNOT_KEEP_UP:
        return (
            f"WARNING: the line cannot keep up: {line_text(forecast.send_rate)} are needed, "
            f"{line_text(forecast.line_rate)} are there in the mean ({base}). "
            "Raise the limit or the line, or protect fewer disks."
        )
    if forecast.outlook is Outlook.ON_REQUEST or forecast.worst_age_s is None:
        return f"replicates only on request; a run takes about {_time(forecast.run_s)} ({base})"
    told = f"the newest version will be at most {_time(forecast.worst_age_s)} old ({base})"
    if forecast.outlook is Outlook.LATE:
        return f"WARNING: runs take longer than the schedule allows: {told}"
    return told


def _time(seconds: float) -> str:
    """Rounded up: it is said to be the most."""
    minutes = -int(-seconds // 60)
    if minutes <= 120:
        return f"{max(1, minutes)} min"
    if minutes <= 48 * 60:
        return f"{-(-minutes // 60)} h"
    return f"{-(-minutes // (24 * 60))} days"
