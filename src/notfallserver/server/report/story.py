"""What the journal tells of one primary: its states, its schedule, its outages. Pure.

Entries are given with the oldest first, and reach back to before the report's time where something
that was under way began there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from notfallserver.server.cycle.state import Event, State
from notfallserver.server.records.journal import Entry
from notfallserver.server.report.ages import Plan
from notfallserver.server.report.tree import Incident, Outage, Span

SCHEDULE = "schedule-changed"
MOST_INCIDENTS = 200
"""So many lines of incidents are kept; more of them tell nothing more."""
_CAPTURED = frozenset({State.EMERGENCY, State.RECOVERING, State.SWITCHING_BACK})


def plans_of(
    entries: Sequence[Entry], begin: datetime, state: str, schedule: int, capture: int
) -> list[Plan]:
    """How often there should have been a version; ``state``, ``schedule`` and ``capture`` hold at
    ``begin``. While a stand-in works, its captures count."""

    def due() -> int:
        return capture if state in _CAPTURED else schedule

    found = [Plan(begin, due())]
    for one in entries:
        if one.at <= begin:
            continue
        if one.event == SCHEDULE:
            schedule = int(one.details.get("schedule_minutes", schedule))
            capture = int(one.details.get("capture_minutes", capture))
        state = one.to_state or state
        if due() != found[-1].minutes:
            found.append(Plan(one.at, due()))
    return found


def outages_of(entries: Sequence[Entry], span: Span) -> list[Outage]:
    """Those that lasted within the span; one that began earlier is told from its own begin."""
    found: list[Outage] = []
    now: Outage | None = None
    ordered: datetime | None = None
    for one in entries:
        if one.at >= span.end:
            break
        if one.event == Event.HAND_OVER:
            now = now or Outage(one.at, planned=True)
        elif one.event == Event.HANDOVER_FAILED and now and now.planned:
            now = None
        elif one.event == Event.OUTAGE_SEEN:
            now = now or Outage(one.at)
        elif one.event == Event.ACTIVATE:
            ordered = one.at
            now = now or Outage(one.at)
        elif one.event == Event.STANDIN_UP and now and not now.standin_at:
            start = (one.at - ordered).total_seconds() if ordered else None
            now = replace(now, standin_at=one.at, start_s=start)
        elif one.to_state == State.NORMAL and now and one.event != Event.REHEARSAL_ENDED:
            found.append(replace(now, end=one.at))
            now = ordered = None
    if now:
        found.append(now)
    return [one for one in found if one.end is None or one.end > span.begin]


def incidents_of(entries: Iterable[tuple[Entry, str]]) -> tuple[Incident, ...]:
    """Of entries with the name of what happened, the oldest first; the same again by the same one
    is one line."""
    found: list[Incident] = []
    for one, event in entries:
        if found and (found[-1].event, found[-1].who) == (event, one.who):
            found[-1] = replace(found[-1], times=found[-1].times + 1)
        elif len(found) < MOST_INCIDENTS:
            found.append(Incident(one.at, event, one.who, one.why[:400]))
    return tuple(found)


def state_at(entries: Sequence[Entry], moment: datetime, otherwise: str) -> str:
    """The state after the last change up to ``moment``."""
    known = [one.to_state for one in entries if one.at <= moment and one.to_state]
    return known[-1] if known else otherwise


def minutes_at(
    entries: Sequence[Entry], key: str, moment: datetime, default: int, present: int
) -> int:
    """What the schedule said at ``moment``. Entries tell only what it was changed to: before the
    first change it was the ``default``, and without any it is the ``present`` one."""
    changes = [
        (one.at, int(one.details[key]))
        for one in entries
        if one.event == SCHEDULE and key in one.details
    ]
    if not changes:
        return present
    return next((value for at, value in reversed(changes) if at <= moment), default)


def events_of(entries: Sequence[Entry], wanted: Collection[str]) -> list[Entry]:
    return [one for one in entries if one.event in wanted]
