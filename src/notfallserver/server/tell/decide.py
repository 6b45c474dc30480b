"""What to tell and when. Pure.

A trouble is told once when it begins, once a day while it lasts, and once when it is over. What
gets worse is told again. When one is due for a reminder, all that were told before today's are
named with it, so that there is one reminder a day and not one for each.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta

from notfallserver.server.records.journal import Entry
from notfallserver.server.records.outbox import Trouble
from notfallserver.server.records.receivers import Kind, Summary
from notfallserver.server.tell.notice import How, Notice, Seen

REMIND = timedelta(days=1)
JOINS = timedelta(hours=6)
"""What was told longer ago joins a reminder that is due for something else."""
LULL = {
    Kind.URGENT: timedelta(minutes=3),
    Kind.WARNING: timedelta(minutes=15),
    Kind.GOOD: timedelta(0),
}
"""Gone so long, a trouble is over: what comes and goes is one trouble."""
FRESH = timedelta(days=1)
"""What happened longer ago is no news: the server was off meanwhile."""
MORNING = time(8)
"""When summaries are written, the weekly ones on Mondays; where the server is."""

REPORTED = "month-reported"
"""Its report goes along."""
_URGENT, _WARNING = frozenset({Kind.URGENT}), frozenset({Kind.WARNING})
_GOOD, _RELIEF = frozenset({Kind.GOOD}), frozenset({Kind.URGENT, Kind.GOOD})

EVENTS: Mapping[str, frozenset[Kind]] = {
    "activate": _URGENT,
    "standin_up": _RELIEF,
    "activation_failed": _URGENT,
    "original-returned": _URGENT,
    "stand-in-held-back": _URGENT,
    "stand-in-held": _URGENT,
    "stand-in-went-on": _RELIEF,
    "recovery_failed": _URGENT,
    "switch_back_failed": _URGENT,
    "recovered": _RELIEF,
    "stand-in-restarted": _WARNING,
    "stand-in-elsewhere": _WARNING,
    "original-kept-off": _WARNING,
    "standin_dropped": _WARNING,
    "handover_failed": _WARNING,
    "overruled": _WARNING,
    "removed": _WARNING,
    "unseen-changes": _WARNING,
    "version-unreadable": _WARNING,
    "version-lost": _WARNING,
    "version-given-up": _WARNING,
    "run-given-up": _WARNING,
    "deletion-ordered": _WARNING,
    "damaged-version-used": _WARNING,
    "damage-in-stand-in": _WARNING,
    "offload-failed": _WARNING,
    "offload-check-failed": _WARNING,
    "offload-damaged": _URGENT,
    "server-rebuilt": _WARNING,
    "first_version": _GOOD,
    REPORTED: _GOOD,
    "recover": _GOOD,
    "switch_back": _GOOD,
    "hand_over": _GOOD,
}
"""Which entries of the journal are told to whom; what lasts is seen by looking instead."""


@dataclass(frozen=True)
class Decision:
    """What to tell now, and what to remember for the next time."""

    notices: tuple[Notice, ...]
    standing: tuple[Trouble, ...]


def decide(
    seen: Sequence[Seen],
    known: Sequence[Trouble],
    hushed: Collection[str],
    now: datetime,
) -> Decision:
    """From what is seen and what is remembered of before."""
    before = {one.key: one for one in known}
    notices: list[Notice] = []
    standing: list[Trouble] = []
    for one in seen:
        old = before.pop(one.key, None)
        since, told, kind = (old.since, old.told_at, old.kind) if old else (now, None, one.kind)
        if _worse(one.kind, kind):
            kind, told = one.kind, None
        if told is None and now - since >= one.patience:
            notices.append(_notice(How.BEGUN, one.what, one.about, one.name, kind))
            told = now
        standing.append(Trouble(one.key, one.what, one.about, one.name, kind, since, told))
    for gone in before.values():
        if gone.told_at is None or gone.key in hushed:
            continue
        since = gone.gone_at or now
        if now - since < LULL[gone.kind]:
            standing.append(replace(gone, gone_at=since))
        else:
            notices.append(_notice(How.OVER, gone.what, gone.about, gone.name, gone.kind))
    standing, reminders = _remind(standing, now)
    return Decision((*notices, *reminders), tuple(standing))


def _remind(standing: Sequence[Trouble], now: datetime) -> tuple[list[Trouble], list[Notice]]:
    def told_before(one: Trouble, ago: timedelta) -> bool:
        return one.gone_at is None and one.told_at is not None and now - one.told_at >= ago

    if not any(told_before(one, REMIND) for one in standing):
        return list(standing), []
    named = [one for one in standing if told_before(one, JOINS)]
    kept = [replace(one, told_at=now) if one in named else one for one in standing]
    return kept, [_notice(How.STILL, one.what, one.about, one.name, one.kind) for one in named]


def _notice(how: How, what: str, about: str, name: str, kind: Kind) -> Notice:
    return Notice(how, what, about, name, frozenset({kind}))


def _worse(one: Kind, other: Kind) -> bool:
    order = list(Kind)
    return order.index(one) < order.index(other)


def told_of(entry: Entry, what: str, name: str, now: datetime) -> Notice | None:
    """An entry of the journal as a notice; None for what nobody is told, or what is long past."""
    kinds = EVENTS.get(entry.event)
    if kinds is None or now - entry.at > FRESH:
        return None
    report = str(entry.details["month"]) if entry.event == REPORTED else ""
    return Notice(How.HAPPENED, what, entry.primary or "", name, kinds, report)


def wanted(notices: Sequence[Notice], kinds: Collection[Kind]) -> list[Notice]:
    """Those that a receiver of these kinds is told, the most important first."""
    order = list(Kind)
    picked = [one for one in notices if one.kinds & frozenset(kinds)]
    return sorted(picked, key=lambda one: order.index(one.kind))


def summary_due(summary: Summary, last: datetime, local: datetime) -> bool:
    """Whether a morning for it has passed since the last; ``local`` is now, with its zone."""
    if summary is Summary.NEVER:
        return False
    morning = local.replace(hour=MORNING.hour, minute=0, second=0, microsecond=0)
    if morning > local:
        morning -= timedelta(days=1)
    if summary is Summary.WEEKLY:
        morning -= timedelta(days=morning.weekday())
    return last < morning
