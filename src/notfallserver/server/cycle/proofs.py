"""Rehearsals on schedule: a copy that nobody ever saw start is no copy.

Every primary's newest copy is rehearsed some time after its first preparation, and again every few
days; by setting also each new one, where the machine has room. One that does not come up is adapted
anew once and rehearsed again. Then it is checked whether the pool still gives back what was copied:
a deep run, which offers hashes, would not hear of a disk that rots. Then the whole server is read
again (the deep run), and the copy of that is rehearsed; then people are told. What only lacks other
machines (some ports are silent) is told at once. A copy that can't be made ready at all, because
its system can't be read, goes the same way. Nothing of it is in the way of anybody: a rehearsal
begins only where there is memory for it, and an outage ends it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

from notfallserver.server.cycle.agentless import is_agentless
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.state import State
from notfallserver.server.pool.layout import stamp_time
from notfallserver.server.records.primaries import Primary
from notfallserver.server.records.rehearsals import Outcome, Rehearsal
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

LOOK = timedelta(seconds=10)
"""So often it is looked whether a rehearsal is due."""
AGAIN_AFTER = timedelta(hours=12)
"""One that was broken off is tried again then."""
REFUSED_FOR = timedelta(hours=1)
"""What could not begin, for want of memory perhaps, is left alone for so long."""
MENDABLE = frozenset(
    {
        "rehearsal-silent",
        "rehearsal-no-address",
        "rehearsal-filesystem-damaged",
        "rehearsal-content-differs",
        "stand-in-off",
    }
)
"""Failures that another adaptation, or a better copy, may mend."""
UNREADABLE = frozenset({"no-system", "command-failed"})
"""Why an adaptation fails that may be the copy's fault."""
SERIES = "proof_series"
"""In a primary's notes: failures in a row, and what was done about the last; a success ends it."""


class Step(StrEnum):
    """What is done next about a primary's proof."""

    WAIT = "wait"
    REHEARSE = "rehearse"
    ADAPT = "adapt"
    CHECK = "check"
    DEEP = "deep"


@dataclass(frozen=True)
class Series:
    """Failures in a row: the last one, how many, and from when what was done about it counts.
    ``checked``: the one after which the copy was checked. See :attr:`Facts.failure`."""

    rehearsal: str = ""
    failures: int = 0
    acted_at: str = ""
    checked: str = ""

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Facts:
    """``prepared``: the stamp of the image that would start; empty where none is ready. ``days``
    between rehearsals, 0 for none by days; ``each``: each copy is rehearsed, and there is room.
    ``unreadable``: the stamp of a version whose adaptation failed twice for want of a system."""

    last: Rehearsal | None
    series: Series
    prepared: str
    days: int
    now: datetime
    each: bool = False
    unreadable: str = ""

    @property
    def failure(self) -> str:
        """What something is to be done about."""
        if self.unreadable and not self.prepared:
            return _UNREADABLE + self.unreadable
        return self.last.id if self.last else ""


_UNREADABLE = "unreadable:"


def next_step(facts: Facts) -> Step:
    """Pure."""
    last, series = facts.last, facts.series
    if not (facts.days or facts.each):
        return Step.WAIT
    if not facts.prepared:
        if not facts.unreadable or series.failures > 1:
            return Step.WAIT
        return Step.DEEP if series.checked == facts.failure else Step.CHECK
    if last is None:
        return Step.REHEARSE
    age = facts.now - last.began_at
    fresh = facts.each and last.version != facts.prepared
    due = fresh or (facts.days > 0 and age >= timedelta(days=facts.days))
    if last.outcome is Outcome.BROKEN_OFF:
        return Step.REHEARSE if fresh or age >= AGAIN_AFTER else Step.WAIT
    if series.rehearsal.startswith(_UNREADABLE) and last.began_at < _moment(series.acted_at):
        return Step.REHEARSE  # the deep run made it readable
    if last.outcome is Outcome.PASSED or _code(last) not in MENDABLE:
        return Step.REHEARSE if due else Step.WAIT
    acted = series.rehearsal == last.id
    if not acted and series.failures < 2:
        if not series.failures:
            return Step.ADAPT
        return Step.DEEP if series.checked == last.id else Step.CHECK
    if acted and series.failures == 1:
        return Step.REHEARSE  # adapted anew, as it is prepared
    if acted and stamp_time(facts.prepared) > _moment(series.acted_at):
        return Step.REHEARSE  # of the version that the deep run made
    return Step.REHEARSE if due else Step.WAIT


def starts_alone(record: Mapping[str, Any]) -> bool:
    """Whether the prepared image comes up without a key that somebody types; by its record.

    Else a rehearsal that nobody watches would fail for ever.
    """
    return all(one.get("code") != "locked-system" for one in record.get("warnings", []))


def _code(one: Rehearsal) -> str:
    return str((one.error or {}).get("code", ""))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def has_room(load: float, cpus: int) -> bool:
    """Whether a processor is idle. (Memory is asked for by the rehearsal itself.)"""
    return load <= cpus - 1 or load < 0.5


class Proofs:
    """``rehearse`` begins a rehearsal, ``check`` the check of a version (its stamp comes second),
    ``deepen`` a deep run; they raise where they can't."""

    def __init__(
        self,
        means: Means,
        rehearse: Callable[[str], object],
        check: Callable[[str, str], object],
        deepen: Callable[[str], object],
    ) -> None:
        self._means = means
        self._rehearse = rehearse
        self._check = check
        self._deepen = deepen
        self._look_at = _now()
        self._not_before: dict[str, datetime] = {}

    def look(self, rows: Sequence[Primary]) -> None:
        """Begin at most one thing; called every few seconds."""
        settings, now = self._means.present(), _now()
        days, wished = settings.rehearsal_days, bool(settings.rehearse_each_copy)
        if not (days or wished) or now < self._look_at:
            return
        under_way = self._means.catalogue.jobs.unfinished()
        if any(job.kind == "rehearse" for job in under_way):
            return
        each = wished and not under_way and has_room(os.getloadavg()[0], os.cpu_count() or 1)
        self._look_at = now + LOOK
        for row in rows:
            if row.state != State.NORMAL or now < self._not_before.get(row.uuid, now):
                continue
            if self._means.catalogue.jobs.unfinished(row.uuid):
                continue
            facts = self._facts(row, days, now, each)
            step = next_step(facts)
            if step is Step.WAIT:
                continue
            try:
                self._take(row, step, facts.failure)
            except NotfallError as error:
                self._not_before[row.uuid] = now + REFUSED_FOR
                log.info("%s: no %s: %s", row.name, step, error)
                continue
            return

    def _facts(self, row: Primary, days: int, now: datetime, each: bool) -> Facts:
        last = next(iter(self._means.catalogue.rehearsals.of(row.uuid, limit=1)), None)
        store = self._means.pool.primary(row.uuid) if row.newest_version else None
        best = store.best() if store else None
        prepared = store.prepared(best.stamp) if store and best else None
        ready = prepared is not None and starts_alone(prepared.record)
        stamp = best.stamp if best else ""
        unreadable = stamp if prepared is None and self._fails_to_adapt(row.uuid, stamp) else ""
        series = self._series(row)
        return Facts(last, series, stamp if ready else "", days, now, each, unreadable)

    def _fails_to_adapt(self, primary: str, stamp: str) -> bool:
        """The second try was the one anew."""
        tries = self._means.catalogue.jobs.newest(primary, "prepare", limit=2) if stamp else []
        return len(tries) == 2 and all(
            (one.error or {}).get("code") in UNREADABLE and one.created_at > stamp_time(stamp)
            for one in tries
        )

    def _series(self, row: Primary) -> Series:
        return Series(**row.notes.get(SERIES, {}))

    def _take(self, row: Primary, step: Step, failure: str) -> None:
        if step is Step.REHEARSE:
            self._rehearse(row.uuid)
            return
        series, orders = self._series(row), True
        if step is Step.CHECK:
            self._check(row.uuid, self._means.pool.primary(row.uuid).need_best().stamp)
            series = replace(series, checked=failure)
        elif step is Step.ADAPT:
            store = self._means.pool.primary(row.uuid)
            store.health.change(store.need_best().stamp, lambda one: replace(one, renew=True))
            series = Series(failure, 1, _now().isoformat())
        else:
            if orders := not is_agentless(row):  # else only another import could help
                self._deepen(row.uuid)
            series = Series(failure, 2, _now().isoformat())
        self._means.catalogue.primaries.note(row.uuid, **{SERIES: series.to_json()})
        if orders:
            self._means.catalogue.journal.write(row.uuid, f"proof-{step}", "server")


def _now() -> datetime:
    return datetime.now(timezone.utc)
