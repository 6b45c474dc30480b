"""How the emergency server is, judged from the facts. Pure.

Each finding is one thing that must be right on the worst day. ``case`` names what was found; the
words for it, and what to do, are in ``web/words/health.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from notfallserver.server.health.facts import Facts
from notfallserver.server.offload.place import Standing

LITTLE, VERY_LITTLE = 0.15, 0.05
"""Free share of the pool below which it is told, and below which it is an alarm."""
OWN_LITTLE, OWN_VERY_LITTLE = 2 << 30, 512 << 20
"""Free bytes on the server's own disk: its records need some, whatever else lies there."""
WARNED = 0.05
"""So much of the pool before versions go before their time it is told that they will."""
SOON, VERY_SOON = timedelta(days=30), timedelta(days=7)
"""The pool is full within that time."""
RENEW, EXPIRES = timedelta(days=180), timedelta(days=30)


class Grade(StrEnum):
    """Worst first."""

    BAD = "bad"
    WARNING = "warn"
    GOOD = "good"


@dataclass(frozen=True)
class Finding:
    """``key`` names what was looked at, ``case`` what was found there."""

    key: str
    grade: Grade
    case: str
    values: Mapping[str, str | int | datetime | timedelta] = field(default_factory=dict)


def judge(facts: Facts, now: datetime) -> tuple[Finding, ...]:
    """All findings, always in the same order, one for each key."""
    return (
        _space(facts),
        _forecast(facts),
        _disk(facts),
        _hypervisor(facts),
        _memory(facts),
        _bridge(facts),
        _witnesses(facts),
        _medium(facts),
        _clock(facts),
        _certificate("server-certificate", facts.server_certificate_until, now),
        _certificate("authority", facts.authority_until, now),
        _receivers(facts),
        _offloads(facts),
    )


def worst(findings: Iterable[Finding]) -> Grade:
    """Of all together."""
    order = list(Grade)
    return min((one.grade for one in findings), key=order.index, default=Grade.GOOD)


def _space(facts: Facts) -> Finding:
    if not facts.pool_size or facts.pool_free is None:
        return Finding("space", Grade.BAD, "space-unknown")
    share = facts.pool_free / facts.pool_size
    values = {"percent": int(share * 100), "limit": facts.make_room}
    if facts.stuck:
        return Finding("space", Grade.BAD, "space-stuck", values)
    if share < VERY_LITTLE:
        return Finding("space", Grade.BAD, "space-out", values)
    if facts.make_room and share < max(LITTLE, facts.make_room / 100 + WARNED):
        return Finding("space", Grade.WARNING, "space-going", values)
    if share < LITTLE:
        return Finding("space", Grade.WARNING, "space-low", values)
    return Finding("space", Grade.GOOD, "space-enough", values)


def _forecast(facts: Facts) -> Finding:
    time = facts.full_in
    if time is None:
        return Finding("forecast", Grade.GOOD, "not-filling")
    grade = Grade.BAD if time < VERY_SOON else Grade.WARNING if time < SOON else Grade.GOOD
    return Finding(
        "forecast", grade, "filling" if grade is Grade.GOOD else "full-soon", {"time": time}
    )


def _disk(facts: Facts) -> Finding:
    if not facts.disk_size or facts.disk_free is None:
        return Finding("disk", Grade.BAD, "disk-unknown")
    values = {"free": facts.disk_free, "grows": facts.pool_grows}
    share = facts.disk_free / facts.disk_size
    if facts.disk_free < OWN_LITTLE:
        grade = Grade.BAD if facts.disk_free < OWN_VERY_LITTLE else Grade.WARNING
        return Finding("disk", grade, "disk-out", values)
    if facts.pool_grows > facts.disk_free and share < LITTLE:
        grade = Grade.BAD if share < VERY_LITTLE else Grade.WARNING
        return Finding("disk", grade, "disk-below", values)
    return Finding("disk", Grade.GOOD, "disk-enough", values)


def _hypervisor(facts: Facts) -> Finding:
    if facts.accelerators is None:
        return Finding("hypervisor", Grade.BAD, "hypervisor-silent")
    if facts.accelerator not in facts.accelerators:
        return Finding("hypervisor", Grade.BAD, "no-accelerator")
    if facts.accelerator == "tcg":
        return Finding("hypervisor", Grade.WARNING, "emulated")
    return Finding("hypervisor", Grade.GOOD, "hypervisor-ready")


def _memory(facts: Facts) -> Finding:
    if facts.largest > facts.memory:
        values: dict[str, str | int | datetime | timedelta] = {
            "name": facts.largest_name,
            "needs": facts.largest,
            "gets": facts.memory,
        }
        return Finding("memory", Grade.WARNING, "memory-short", values)
    return Finding("memory", Grade.GOOD, "memory-enough")


def _bridge(facts: Facts) -> Finding:
    values = {"bridge": facts.bridge}
    if facts.bridge_there:
        return Finding("bridge", Grade.GOOD, "bridge-there", values)
    return Finding("bridge", Grade.BAD, "no-bridge", values)


def _witnesses(facts: Facts) -> Finding:
    if facts.witnesses is None:
        return Finding("witnesses", Grade.WARNING, "witnesses-unknown")
    if facts.witnesses == 0:
        return Finding("witnesses", Grade.BAD, "no-witness")
    return Finding("witnesses", Grade.GOOD, "witnesses-there", {"count": facts.witnesses})


def _medium(facts: Facts) -> Finding:
    if facts.medium:
        return Finding("medium", Grade.GOOD, "medium-built")
    if facts.medium_in_work:
        return Finding("medium", Grade.GOOD, "medium-in-work")
    return Finding("medium", Grade.BAD, "no-medium")


def _clock(facts: Facts) -> Finding:
    if facts.clock_right is None:
        return Finding("clock", Grade.GOOD, "clock-unknown")
    if facts.clock_right:
        return Finding("clock", Grade.GOOD, "clock-right")
    return Finding("clock", Grade.WARNING, "clock-alone")


def _certificate(key: str, until: datetime | None, now: datetime) -> Finding:
    if until is None:
        return Finding(key, Grade.BAD, f"{key}-unreadable")
    left = until - now
    if left < EXPIRES:
        return Finding(key, Grade.BAD, f"{key}-ends", {"time": max(left, timedelta(0))})
    grade = Grade.WARNING if left < RENEW else Grade.GOOD
    return Finding(key, grade, f"{key}-{'ends' if left < RENEW else 'good'}", {"time": left})


def _receivers(facts: Facts) -> Finding:
    if facts.mute:
        return Finding("receivers", Grade.WARNING, "mute", {"names": _list(facts.mute)})
    if not facts.receivers:
        return Finding("receivers", Grade.WARNING, "nobody-told")
    return Finding("receivers", Grade.GOOD, "somebody-told", {"count": facts.receivers})


def _offloads(facts: Facts) -> Finding:
    for standing, grade in (
        (Standing.DAMAGED, Grade.BAD),
        (Standing.FAILED, Grade.WARNING),
        (Standing.OVERDUE, Grade.WARNING),
    ):
        names = [name for name, stands in facts.offloads if stands is standing]
        if names:
            return Finding("off-load", grade, f"off-load-{standing}", {"names": _list(names)})
    if facts.unkept:
        values = {"names": _list(facts.unkept)}
        return Finding("off-load", Grade.WARNING, "off-load-key", values)
    if not facts.offloads:
        return Finding("off-load", Grade.GOOD, "no-off-load")
    return Finding("off-load", Grade.GOOD, "off-load-well", {"count": len(facts.offloads)})


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
