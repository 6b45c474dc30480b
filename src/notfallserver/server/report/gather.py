"""Gathers a month's facts from catalogue and pool and has them judged. Nothing is changed.

Which versions there were is told by the journal, whatever became of them since, and by the pool,
which outlives the catalogue. What has no past (damage, space, how many versions are kept) is as it
is when the report is made.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

from notfallserver import VERSION
from notfallserver.server.authority import Authority
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.state import Event, State
from notfallserver.server.health.filling import time_until_full
from notfallserver.server.pool.layout import stamp_time
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.records.journal import Entry, Wanted
from notfallserver.server.records.primaries import Primary
from notfallserver.server.records.rehearsals import Outcome, Rehearsal
from notfallserver.server.records.space import EVERY, Sample
from notfallserver.server.report.ages import Take, ages_of, target_of
from notfallserver.server.report.judge import findings_of, light_of, sum_up
from notfallserver.server.report.months import Month
from notfallserver.server.report.proofs import (
    ProofFinder,
    measured_start,
    moment_of_text,
    told_proof,
)
from notfallserver.server.report.story import (
    SCHEDULE,
    incidents_of,
    minutes_at,
    outages_of,
    plans_of,
    state_at,
)
from notfallserver.server.report.tree import (
    Ages,
    Light,
    Outage,
    Pool,
    PrimaryReport,
    Report,
    Span,
)
from notfallserver.wire.errors import NotfallError

LOOKS_BACK = timedelta(days=400)
"""What still lasts in the month began at most so long before it."""
CARD = "card"
"""In the notes: what somebody wrote on the emergency card, the company's name among it."""
_JOINED = ("invited", "enrolled", "added", "adopted")

Grave = Callable[[Entry], str]
"""What an entry is called where it is grave, else empty."""


@dataclass(frozen=True)
class Gathered:
    """``pictures`` by the SHA-256 that the report names."""

    report: Report
    pictures: dict[str, Path]


class Gatherer:
    """``grave`` names the incidents, which are among the entries of ``events``."""

    def __init__(
        self, means: Means, authority: Authority, grave: Grave, events: Collection[str]
    ) -> None:
        self._means = means
        self._authority = authority
        self._grave = grave
        self._events = events

    def gather(self, month: Month, zone_name: str, zone: tzinfo, now: datetime) -> Gathered:
        """The report of ``month`` as far as it is over ``now``."""
        begin, end = month.begin(zone), month.next.begin(zone)
        span = Span(begin, min(end, now))
        if span.end <= span.begin:
            raise NotfallError(
                "month-not-begun",
                f"{month} has not begun yet.",
                "Choose this month or an earlier one.",
                status=409,
            )
        finder = ProofFinder(self._means)
        incidents = self._incidents(span)
        primaries = [
            *(self._present(row, span, incidents, finder) for row in self._rows()),
            *(self._removed(entry, span, incidents) for entry in self._removals(span)),
        ]
        told = tuple(one for one in primaries if one is not None)
        samples = self._means.catalogue.space.samples()
        report = Report(
            month=str(month),
            company=self._company(),
            server=socket.gethostname(),
            program=VERSION,
            fingerprint=self._authority.fingerprint,
            time_zone=zone_name,
            begin=begin,
            end=end,
            until=span.end,
            complete=span.end == end,
            made_at=now,
            summary=sum_up(told),
            primaries=told,
            incidents=incidents_of(incidents.get(None, [])),
            silent=silent_spans(samples, span),
            pool=self._pool(samples, now),
        )
        return Gathered(report, finder.pictures)

    def began(self) -> datetime | None:
        """When something was written down first; None on a new server."""
        joined = self._read(Wanted(events=_JOINED))
        return joined[0].at if joined else None

    def _rows(self) -> list[Primary]:
        return self._means.catalogue.primaries.all()

    def _read(self, wanted: Wanted) -> list[Entry]:
        """The oldest first."""
        return list(self._means.catalogue.journal.all(wanted))[::-1]

    def _incidents(self, span: Span) -> dict[str | None, list[tuple[Entry, str]]]:
        """By primary; outages are told by themselves."""
        found: dict[str | None, list[tuple[Entry, str]]] = {}
        wanted = Wanted(events=self._events, since=span.begin, until=span.end)
        for one in self._read(wanted):
            if one.event != Event.OUTAGE_SEEN and (name := self._grave(one)):
                found.setdefault(one.primary, []).append((one, name))
        return found

    def _removals(self, span: Span) -> list[Entry]:
        present = {one.uuid for one in self._rows()}
        removed = self._read(Wanted(events=("removed",), since=span.begin))
        return [one for one in removed if one.primary and one.primary not in present]

    # -- one primary -----------------------------------------------------------------------------

    def _present(
        self,
        row: Primary,
        span: Span,
        incidents: dict[str | None, list[tuple[Entry, str]]],
        finder: ProofFinder,
    ) -> PrimaryReport | None:
        takes = self._takes(row.uuid, span)
        store = self._store(row)
        kept = store.versions() if store else []
        for version in kept:
            taken = stamp_time(version.stamp)
            sealed = moment_of_text(version.manifest.sealed_at) or taken
            known = Take(sealed, taken)
            takes[version.stamp] = min(takes.get(version.stamp, known), known)
        proof = finder.last(row.uuid, store, span.end)
        rehearsals = self._means.catalogue.rehearsals.within(row.uuid, span.begin, span.end)
        story = self._story(row, span, takes, row.enrolled_at, None)
        if story is None:
            return None
        damaged = int(row.notes.get("damaged", 0))
        ages = story.ages
        findings = findings_of(ages, proof, story.schedule, story.state, damaged, span.end)
        recovery = measured_start(rehearsals, proof, story.outages)
        machine = row.machine
        return PrimaryReport(
            uuid=row.uuid,
            name=row.name,
            light=light_of(findings),
            span=story.span,
            hostname=machine.hostname if machine else "",
            system=machine.system if machine else "",
            addresses=tuple(machine.addresses()) if machine else (),
            protected_since=story.protected_since,
            schedule_minutes=story.schedule,
            target_s=target_of(story.schedule),
            state=story.state,
            made=story.made,
            kept=len(kept),
            newest=story.newest,
            damaged=damaged,
            ages=ages,
            rehearsals_passed=_count(rehearsals, Outcome.PASSED),
            rehearsals_failed=_count(rehearsals, Outcome.FAILED),
            rehearsals_broken_off=_count(rehearsals, Outcome.BROKEN_OFF),
            proof=proof,
            recovery_s=recovery[0] if recovery else None,
            recovery_at=recovery[1] if recovery else None,
            outages=story.outages,
            incidents=incidents_of(incidents.get(row.uuid, [])),
            findings=findings,
        )

    def _store(self, row: Primary) -> PrimaryStore | None:
        """None where the pool has nothing of it, or has lost it."""
        try:
            return self._means.pool.primary(row.uuid) if row.newest_version else None
        except NotfallError:
            return None

    def _removed(
        self,
        entry: Entry,
        span: Span,
        incidents: dict[str | None, list[tuple[Entry, str]]],
    ) -> PrimaryReport | None:
        """One of which only the journal tells any more."""
        uuid = str(entry.primary)
        joined = self._read(Wanted(primary=uuid, events=_JOINED))
        takes = self._takes(uuid, span)
        added = joined[0].at if joined else min((one.there for one in takes.values()), default=None)
        story = self._story(None, span, takes, added or span.begin, entry)
        if story is None:
            return None
        ended = Wanted(primary=uuid, events=(Event.REHEARSAL_ENDED,), until=span.end)
        told = [one for one in self._read(ended) if one.details.get("outcome")]
        inside = [str(one.details["outcome"]) for one in told if one.at >= span.begin]
        return PrimaryReport(
            uuid=uuid,
            name=str(entry.details.get("name", "")),
            light=Light.GONE,
            span=story.span,
            removed_at=entry.at,
            protected_since=story.protected_since,
            made=story.made,
            newest=story.newest,
            ages=story.ages,
            rehearsals_passed=inside.count(Outcome.PASSED),
            rehearsals_failed=inside.count(Outcome.FAILED),
            proof=told_proof(told[-1]) if told else None,
            outages=story.outages,
            incidents=incidents_of(incidents.get(uuid, [])),
        )

    def _takes(self, uuid: str, span: Span) -> dict[str, Take]:
        """By stamp: of the month, and the last one before it."""
        earlier = Wanted(events=("version",), until=span.begin)
        before = self._means.catalogue.journal.entries(uuid, 1, wanted=earlier)
        inside = self._read(
            Wanted(primary=uuid, events=("version",), since=span.begin, until=span.end)
        )
        found = {}
        for one in [*before, *inside]:
            stamp = str(one.details.get("version", ""))
            try:
                found[stamp] = Take(one.at, stamp_time(stamp))
            except NotfallError:
                continue  # an entry of something else
        return found

    def _story(
        self,
        row: Primary | None,
        span: Span,
        takes: dict[str, Take],
        added: datetime,
        removed: Entry | None,
    ) -> _Story | None:
        """None where it was not yet there, or no more."""
        uuid = row.uuid if row else str(removed.primary if removed else "")
        first = min((one.there for one in takes.values()), default=None)
        told = self._read(Wanted(primary=uuid, events=(Event.FIRST_VERSION,)))
        since = min((one for one in (first, *(entry.at for entry in told)) if one), default=None)
        begin = max(span.begin, min(added, since) if since else added)
        mine = Span(begin, min(span.end, removed.at) if removed else span.end)
        if mine.end <= mine.begin:
            return None
        entries = self._entries(uuid, mine)
        settings = self._means.present()
        schedule, capture = (
            minutes_at(entries, key, mine.begin, default, getattr(row, key) if row else default)
            for key, default in (
                ("schedule_minutes", settings.schedule_minutes),
                ("capture_minutes", settings.capture_minutes),
            )
        )
        otherwise = State.NORMAL if first and first <= mine.begin else State.NEW
        state = state_at(entries, mine.begin, otherwise)
        plans = plans_of(entries, mine.begin, state, schedule, capture)
        there = [one for one in takes.values() if one.there < mine.end]
        return _Story(
            span=mine,
            protected_since=since if since and since < mine.end else None,
            schedule=plans[-1].minutes,
            state=state_at(entries, mine.end, otherwise),
            made=sum(one.there >= mine.begin for one in there),
            newest=max((stamp for stamp, one in takes.items() if one.there < mine.end), default=""),
            ages=ages_of(mine, there, plans),
            outages=tuple(outages_of(entries, mine)),
        )

    def _entries(self, uuid: str, span: Span) -> list[Entry]:
        """Changes of state and schedule, the oldest first; all changes of the schedule."""
        states = Wanted(
            primary=uuid, events=tuple(Event), since=span.begin - LOOKS_BACK, until=span.end
        )
        schedule = Wanted(primary=uuid, events=(SCHEDULE,), until=span.end)
        return sorted([*self._read(states), *self._read(schedule)], key=lambda one: one.id)

    # -- the server ------------------------------------------------------------------------------

    def _company(self) -> str:
        kept = self._means.catalogue.notes.read(CARD)
        return self._means.settings.company or str(kept.get("company", "")).strip()

    def _pool(self, samples: Sequence[Sample], now: datetime) -> Pool | None:
        try:
            free, size = self._means.pool.free()
        except OSError:
            return None
        full_in = time_until_full(samples, size, free, now)
        return Pool(size, free, full_in.total_seconds() if full_in else None)


@dataclass(frozen=True)
class _Story:
    """What one primary's month comes to; ``schedule`` and ``state`` hold at its end."""

    span: Span
    protected_since: datetime | None
    schedule: int
    state: str
    made: int
    newest: str
    ages: Ages
    outages: tuple[Outage, ...]


def silent_spans(samples: Sequence[Sample], span: Span) -> tuple[Span, ...]:
    """When the server was not running: it takes a sample every few hours while it does. The true
    downtime began up to that much later."""
    return tuple(
        Span(max(before.at, span.begin), min(after.at, span.end))
        for before, after in zip(samples, samples[1:], strict=False)
        if after.at - before.at > 2 * EVERY and after.at > span.begin and before.at < span.end
    )


def _count(rehearsals: Sequence[Rehearsal], outcome: Outcome) -> int:
    return sum(one.outcome is outcome for one in rehearsals)
