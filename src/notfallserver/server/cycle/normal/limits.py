"""How much of line and disks a primary's replication may take, and when (pure).

Limits belong to a primary and are kept in its notes. Windows are in the server's local time: what
its clock on the wall shows decides. So in the night when clocks are set forward a window within the
hour that is left out does not occur, and when they are set back it occurs twice. A window that
ends before it begins goes on past midnight and belongs to the day on which it began. Where windows
overlap the smallest rate wins; where none holds, the general rate does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from notfallserver.server.cycle.normal.limit_text import (
    Window,
    bad_limits,
    rate_text,
    read_rate,
    read_window,
    window_text,
)
from notfallserver.wire.allowance import Allowance

LIMITS = "limits"
"""Where a primary's notes hold them."""
DAY = 24 * 60
WEEK = 7 * DAY
MOST_WINDOWS = 32
PAUSE_MINUTES = 30
"""So long a run pauses at most, when nobody says otherwise."""


@dataclass(frozen=True)
class Limits:
    """Rates in bytes a second, 0 = no limit; pressure in percent; ``pause_minutes`` for a run."""

    rate: float = 0
    windows: tuple[Window, ...] = ()
    read_rate: float = 0
    pause_load: float = 0
    pause_pressure: float = 0
    pause_minutes: int = PAUSE_MINUTES

    def rate_at(self, minute: int) -> float:
        """The rate in this minute of the week; 0 is Monday 00:00, 0 bytes are no limit."""
        held = [one.rate for one in self.windows if _holds(one, minute)]
        if not held:
            return self.rate
        return min((one for one in held if one), default=0)

    def week(self) -> list[tuple[int, float]]:
        """The whole week: from which minute on which rate holds, in order from minute 0."""
        turns = {0}
        for one in self.windows:
            for day in one.days:
                begin = day * DAY + one.begin
                turns |= {begin % WEEK, (begin + _length(one)) % WEEK}
        return [(turn, self.rate_at(turn)) for turn in sorted(turns)]

    def allowance(self, local: datetime) -> Allowance:
        """What holds when the clock on the wall shows ``local``."""
        pauses = self.pause_load or self.pause_pressure
        return Allowance(
            rate=self.rate_at(minute_of_week(local)),
            read_rate=self.read_rate,
            pause_load=self.pause_load,
            pause_pressure=self.pause_pressure,
            pause_s=self.pause_minutes * 60 if pauses else 0,
        )

    def to_json(self) -> dict[str, Any]:
        """For the notes; windows as a person writes them."""
        return {
            "rate": self.rate,
            "windows": [window_text(one) for one in self.windows],
            "read_rate": self.read_rate,
            "pause_load": self.pause_load,
            "pause_pressure": self.pause_pressure,
            "pause_minutes": self.pause_minutes,
        }

    def in_words(self) -> list[str]:
        """Each limit in one short line; empty when there is none."""
        told = [f"line {rate_text(self.rate)}"] if self.rate else []
        told += [f"line in the window {window_text(one)}" for one in self.windows]
        if self.read_rate:
            told.append(f"reading {rate_text(self.read_rate, bits=False)}")
        if self.pause_load:
            told.append(f"pauses above load {self.pause_load:g}")
        if self.pause_pressure:
            told.append(f"pauses when others wait for disks {self.pause_pressure:g} % of the time")
        if self.pause_load or self.pause_pressure:
            told.append(f"pauses at most {self.pause_minutes} min a run")
        return told


def minute_of_week(local: datetime) -> int:
    return local.weekday() * DAY + local.hour * 60 + local.minute


def _holds(window: Window, minute: int) -> bool:
    length = _length(window)
    return any((minute - day * DAY - window.begin) % WEEK < length for day in window.days)


def _length(window: Window) -> int:
    """Minutes; equal begin and end are a whole day."""
    return (window.end - window.begin) % DAY or DAY


def read_limits(noted: Any) -> Limits:
    """From the notes; nothing noted is no limit."""
    if not isinstance(noted, Mapping):
        return Limits()
    known = {one.name: noted[one.name] for one in fields(Limits) if one.name in noted}
    known["windows"] = tuple(read_window(one) for one in noted.get("windows", ()))
    return Limits(**known)


@dataclass(frozen=True)
class Wish:
    """Changes as a person writes them; None leaves as it is, ``none`` takes a limit away."""

    rate: str | None = None
    windows: tuple[str, ...] | None = None
    read_rate: str | None = None
    pause_load: str | None = None
    pause_pressure: str | None = None
    pause_minutes: int | None = None


def changed(limits: Limits, wish: Wish) -> Limits:
    """The limits with the wish applied; a wish that makes no sense is refused as a whole."""
    new = limits
    if wish.rate is not None:
        new = replace(new, rate=read_rate(wish.rate))
    if wish.windows is not None:
        windows = tuple(read_window(one) for one in wish.windows if not _none(one))
        if len(windows) > MOST_WINDOWS:
            raise bad_limits(f"{len(windows)} windows are more than {MOST_WINDOWS}.")
        new = replace(new, windows=windows)
    if wish.read_rate is not None:
        new = replace(new, read_rate=read_rate(wish.read_rate))
    if wish.pause_load is not None:
        new = replace(new, pause_load=_number(wish.pause_load, "load", 0.01, 10_000))
    if wish.pause_pressure is not None:
        new = replace(new, pause_pressure=_number(wish.pause_pressure, "pressure", 1, 99))
    if wish.pause_minutes is not None:
        if not 1 <= wish.pause_minutes <= DAY:
            raise bad_limits("A run pauses at least 1 and at most 1440 minutes.")
        new = replace(new, pause_minutes=wish.pause_minutes)
    return new


def _none(text: str) -> bool:
    return text.strip().lower() == "none"


def _number(text: str, what: str, least: float, most: float) -> float:
    if _none(text):
        return 0
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = -1
    if not least <= value <= most:
        raise bad_limits(f"'{text[:40]}' is no {what} between {least:g} and {most:g}.")
    return value
