"""How limits are written: ``10Mbit``, ``100MB``, ``Mon-Fri 08:00-18:00=2Mbit`` (pure).

A rate needs a unit that says bits or bytes, because lines are sold in bits, disks in bytes, and a
bare ``10M`` would be wrong by eight for one of them. Weekdays are understood in English and German.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from notfallserver.wire.errors import NotfallError

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_GERMAN = ("Mo", "Di", "Mi", "Do", "Fr", "Sa", "So")
_EVERY_DAY = frozenset(range(7))

LEAST_RATE = 8_000
"""64 kbit/s: below that not even an evening's mail would arrive."""
MOST_RATE = 10**12

_RATE = re.compile(r"(\d{1,6}(?:\.\d{1,6})?) ?([kmgt]?)(i?)(bit|b)(?:/s|ps)?", re.IGNORECASE)
_WINDOW = re.compile(
    r"(?:(?P<days>[A-Za-z][A-Za-z,\- ]*?) +)?"
    r"(?P<begin>\d{1,2}:\d{2}) *- *(?P<end>\d{1,2}:\d{2}) *= *(?P<rate>.+)"
)


@dataclass(frozen=True)
class Window:
    """Days on which it begins (0 is Monday), minutes of the day, bytes a second (0: no limit)."""

    days: frozenset[int]
    begin: int
    end: int
    rate: float


def bad_limits(why: str) -> NotfallError:
    return NotfallError(
        "bad-limits",
        why,
        "Write a rate as 10Mbit (bits a second), 2MB (bytes a second) or none, a window as "
        '"Mon-Fri 08:00-18:00=2Mbit" or "22:00-06:00=none".',
        status=422,
    )


def read_rate(text: str) -> float:
    """Bytes a second; ``none`` is 0, which means no limit."""
    plain = text.strip()
    if plain.lower() == "none":
        return 0
    found = _RATE.fullmatch(plain)
    # 'b' for bits and 'B' for bytes are told apart; 'bit' may be written as one likes.
    if not found or found[4] == "b":
        raise bad_limits(f"'{plain[:40]}' is no rate with a unit.")
    unit: int = (1024 if found[3] else 1000) ** " kmgt".index(found[2].lower() or " ")
    rate = float(found[1]) * unit / (1 if found[4] == "B" else 8)
    if not LEAST_RATE <= rate <= MOST_RATE:
        raise bad_limits(f"'{plain[:40]}' is not between 64kbit and 8Tbit.")
    return rate


def rate_text(rate: float, bits: bool = True) -> str:
    """A rate as it can be written, to a millionth of its unit."""
    if not rate:
        return "none"
    value = rate * 8 if bits else rate
    for prefix, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.6f}".rstrip("0").rstrip(".") + prefix + _unit(bits)
    return f"{value:g}{_unit(bits)}"


def line_text(rate: float) -> str:
    """A measured rate, rounded, in the bits that lines are sold in."""
    value = rate * 8 / 1e6
    return f"{value:.3g} Mbit/s" if value < 999.5 else f"{value / 1000:.3g} Gbit/s"


def _unit(bits: bool) -> str:
    return "bit" if bits else "B"


def read_window(text: str) -> Window:
    """``[DAYS ]HH:MM-HH:MM=RATE``; without days it holds every day."""
    found = _WINDOW.fullmatch(text.strip())
    if not found:
        raise bad_limits(f"'{text[:60]}' is no window.")
    days = _days(found["days"]) if found["days"] else _EVERY_DAY
    begin, end = _minutes(found["begin"]), _minutes(found["end"])
    return Window(days, begin % (24 * 60), end % (24 * 60), read_rate(found["rate"]))


def _minutes(text: str) -> int:
    hours, minutes = (int(part) for part in text.split(":"))
    if minutes > 59 or hours * 60 + minutes > 24 * 60:
        raise bad_limits(f"'{text}' is no time of day.")
    return hours * 60 + minutes


def _days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        begin = _day(first)
        end = _day(last) if last else begin
        found |= {(begin + step) % 7 for step in range((end - begin) % 7 + 1)}
    return frozenset(found)


def _day(text: str) -> int:
    name = text.strip().lower()
    for number, names in enumerate(zip(DAYS, _GERMAN, strict=True)):
        if name in {one.lower() for one in names}:
            return number
    raise bad_limits(f"'{text.strip()[:20]}' is no day of the week.")


def window_text(window: Window) -> str:
    """A window as it can be written."""
    begin, end = (f"{one // 60:02d}:{one % 60:02d}" for one in (window.begin, window.end))
    days = "" if window.days == _EVERY_DAY else _days_text(window.days) + " "
    return f"{days}{begin}-{end}={rate_text(window.rate)}"


def _days_text(days: frozenset[int]) -> str:
    told, day = [], 0
    while day < 7:
        if day not in days:
            day += 1
            continue
        last = day
        while last + 1 in days:
            last += 1
        told.append(DAYS[day] if last == day else f"{DAYS[day]}-{DAYS[last]}")
        day = last + 1
    return ",".join(told)
