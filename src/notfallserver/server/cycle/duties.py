"""What the server does of itself: notice outages, replicate and capture on schedule."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone

from notfallserver.server.cycle.agentless import is_agentless
from notfallserver.server.cycle.elsewhere import works_elsewhere
from notfallserver.server.cycle.handover.plan import has_left, read_left
from notfallserver.server.cycle.lookout import Lookout
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.moves import Move
from notfallserver.server.cycle.normal.deep import deep_due
from notfallserver.server.cycle.outage.guard import Verdict
from notfallserver.server.cycle.outage.sounding import Sounding
from notfallserver.server.cycle.power import Power
from notfallserver.server.cycle.proofs import Proofs
from notfallserver.server.cycle.refusals import awaits_restore
from notfallserver.server.cycle.rehearsals import end_rehearsals
from notfallserver.server.cycle.runner import JobRunner
from notfallserver.server.cycle.seeds import awaits_seed
from notfallserver.server.cycle.state import Event, State
from notfallserver.server.cycle.trial import Trials
from notfallserver.server.cycle.way_back import is_back
from notfallserver.server.pool.layout import stamp_time
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.records.primaries import Primary
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

EVERY_S = 2.0
RETRY_AFTER = timedelta(minutes=5)
"""After a failed run the schedule waits so long."""
LOOK_AT_SCRUBS = timedelta(seconds=10)
"""So often it is looked whether versions must be checked."""
SCRUB_AGAIN_AFTER = timedelta(hours=12)
"""A check that failed or was cancelled is not begun again at once."""


_AT_WORK = (State.NORMAL, State.REHEARSING, State.HANDING_OVER)


class Duties:
    """A thread that looks at every primary every few seconds."""

    def __init__(
        self,
        means: Means,
        runner: JobRunner,
        move: Move,
        power: Power,
        proofs: Proofs,
        examine: Callable[[str], Verdict],
        keep: Callable[[Sequence[Primary]], None] = lambda rows: None,
    ) -> None:
        self._means = means
        self._runner = runner
        self._move = move
        self._power = power
        self._proofs = proofs
        self._trials = Trials(means)
        self._examine = examine
        self._keep = keep
        self.sounding = Sounding(means)
        self._lookout = Lookout(means, runner, move, examine)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="duties", daemon=True)
        self._began = self._look_at_scrubs = _now()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=10)

    def _loop(self) -> None:
        while not self._stopping.wait(EVERY_S):
            rows = self._means.catalogue.primaries.all()
            try:
                self._scrub_when_due(rows)
            except Exception:
                log.exception("beginning a check of versions failed")
            try:
                self._proofs.look(rows)
            except Exception:
                log.exception("beginning a rehearsal failed")
            try:
                self._keep(rows)
            except Exception:
                log.exception("beginning to remove versions failed")
            try:
                self.sounding.look(rows)
            except Exception:
                log.exception("asking a primary that is well failed")
            for row in rows:
                try:
                    self._watch(row)
                    self._power.keep(row)
                    self._settle(row)
                    self._trials.look(row)
                    self._schedule(row)
                except NotfallError as error:
                    log.info("%s: %s", row.name, error)
                except Exception:
                    log.exception("watching %s failed", row.name)

    # -- outages ---------------------------------------------------------------------------------

    def _watch(self, row: Primary) -> None:
        if is_agentless(row):
            self._lookout.look(row)
            return
        heard = self._heard(row)
        if row.state == State.OUTAGE and heard and row.agent_role == "primary":
            self._move(row.uuid, Event.PRIMARY_BACK, "server", "the agent was heard again")
        elif row.state in _AT_WORK and not heard and not _is_leaving(row):
            verdict = self._examine(row.uuid)
            if verdict.allowed:
                self._move(row.uuid, Event.OUTAGE_SEEN, "server", verdict.text, verdict.to_json())
                end_rehearsals(self._means, self._runner, row.uuid)

    def _heard(self, row: Primary) -> bool:
        """Heard lately; after a start of the server every agent gets its time to call."""
        if works_elsewhere(row):
            return False
        if has_left(row.notes, row.last_seen):
            return False
        now = _now()
        limit = timedelta(seconds=self._means.present().heartbeat_timeout_s)
        last = max(row.last_seen, self._began) if row.last_seen else self._began
        return now - last < limit

    def _settle(self, row: Primary) -> None:
        """A recovered primary that took longer than its switch-back waited."""
        if row.state == State.SWITCHING_BACK:
            unfinished = self._means.catalogue.jobs.unfinished(row.uuid)
            waits = {job.kind for job in unfinished} & {"switch_back", "undo", "settle"}
            if not waits and is_back(self._means, row):
                self._runner.submit("settle", row.uuid, {}, "server")

    # -- schedules -------------------------------------------------------------------------------

    def _schedule(self, row: Primary) -> None:
        if row.state in (State.NORMAL, State.NEW, State.REHEARSING):
            self._prepare_when_due(row)
            if awaits_seed(row) or awaits_restore(self._means, row):
                return
            if row.schedule_minutes and row.last_seen is not None and self._heard(row):
                self._run_when_due(row, "replicate", row.schedule_minutes)
        elif row.state == State.EMERGENCY and row.capture_minutes:
            self._run_when_due(row, "capture", row.capture_minutes)

    def _prepare_when_due(self, row: Primary) -> None:
        """A version that came while an older one was being prepared, or whose adaptation failed."""
        if not row.newest_version:
            return
        store = self._means.pool.primary(row.uuid)
        best = store.best()
        if best is None or store.prepared(best.stamp) is not None:
            return
        for last in self._means.catalogue.jobs.newest(row.uuid, "prepare", limit=1):
            recently = last.finished_at and _now() - last.finished_at < RETRY_AFTER
            if not last.finished or (last.state == "failed" and recently):
                return
        self._runner.submit("prepare", row.uuid, {}, "server", join=True)

    def _scrub_when_due(self, rows: Sequence[Primary]) -> None:
        """One primary at a time, and only while nothing else runs for it."""
        days, jobs = self._means.present().scrub_days, self._means.catalogue.jobs
        if not days or _now() < self._look_at_scrubs or jobs.unfinished(kind="scrub"):
            return
        self._look_at_scrubs = _now() + LOOK_AT_SCRUBS
        checked = {}
        for row in rows:
            if row.state != State.NORMAL or jobs.unfinished(row.uuid):
                continue
            last = jobs.newest(row.uuid, "scrub", limit=1)
            if last and last[0].finished_at and _now() - last[0].finished_at < SCRUB_AGAIN_AFTER:
                continue
            if (moment := last_checked(self._means.pool.primary(row.uuid))) is not None:
                checked[row.uuid] = moment
        if (due := most_overdue(checked, _now() - timedelta(days=days))) is not None:
            self._runner.submit("scrub", due, {}, "schedule", join=True)

    def _run_when_due(self, row: Primary, kind: str, minutes: int) -> None:
        now = _now()
        if row.newest_version and now - stamp_time(row.newest_version) < timedelta(minutes=minutes):
            return
        jobs = self._means.catalogue.jobs
        for last in jobs.newest(row.uuid, kind, limit=1):
            if not last.finished:
                return
            if last.state != "done" and last.finished_at and now - last.finished_at < RETRY_AFTER:
                return
        deep = kind == "replicate" and deep_due(row.notes, now)
        self._runner.submit(kind, row.uuid, {"deep": True} if deep else {}, "schedule", join=True)


def _is_leaving(row: Primary) -> bool:
    """Whether its silence is part of a handover, whose job knows what to do."""
    return row.state == State.HANDING_OVER and read_left(row.notes) is not None


def last_checked(store: PrimaryStore) -> datetime | None:
    """When all versions had been checked; before the first time, when the oldest was made."""
    if store.health.completed_at:
        return datetime.fromisoformat(store.health.completed_at)
    versions = store.versions()
    return stamp_time(versions[-1].stamp) if versions else None


def most_overdue(checked: Mapping[str, datetime], limit: datetime) -> str | None:
    """The primary whose last check is the longest ago, of those before ``limit``."""
    due = {uuid: moment for uuid, moment in checked.items() if moment <= limit}
    return min(due, key=due.__getitem__, default=None)


def _now() -> datetime:
    return datetime.now(timezone.utc)
