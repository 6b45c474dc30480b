"""Jobs: long work that survives a restart. This keeps the rows, ``cycle.runner`` runs them."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, exists, insert, literal, select, tuple_, update

from notfallserver.server.records.database import Database, now
from notfallserver.server.records.events import JobChanged
from notfallserver.server.records.tables import UtcTime, jobs
from notfallserver.wire.errors import NotfallError

UNFINISHED = ("queued", "running")
LATELY = timedelta(days=7)
"""A failure is of interest for so long."""


@dataclass(frozen=True)
class Progress:
    """How far a job is; ``done`` and ``total`` in bytes, ``rate`` in bytes a second.

    A total of 0 means that nobody knows; ``seconds_left`` is None then.
    """

    phase: str = ""
    done: int = 0
    total: int = 0
    rate: float = 0.0
    seconds_left: float | None = None


@dataclass(frozen=True)
class Job:
    """One job; ``state`` is queued, running, done, failed or cancelled."""

    id: str
    kind: str
    primary: str | None
    state: str
    who: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: Progress
    parameters: dict[str, Any]
    notes: dict[str, Any]
    result: dict[str, Any]
    error: dict[str, Any] | None
    cancel_requested: bool

    @property
    def finished(self) -> bool:
        return self.state not in UNFINISHED


class Jobs:
    """All jobs of this server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        kind: str,
        primary: str | None,
        parameters: Mapping[str, Any],
        who: str,
        excluded: Collection[str] = (),
        join: bool = False,
    ) -> tuple[Job, bool]:
        """Queue a job unless an unfinished one of the ``excluded`` kinds has the same primary.

        With ``join`` an unfinished one of the same kind is handed back instead of an error.
        Returns the job, and whether it is new. Check and insert are one transaction.
        """
        job = secrets.token_hex(8)
        with self._database.writing() as connection:
            wanted = select(jobs).where(
                jobs.c.primary == primary if primary else jobs.c.primary.is_(None),
                jobs.c.state.in_(UNFINISHED),
                jobs.c.kind.in_({kind, *excluded}),
            )
            for row in connection.execute(wanted):
                if join and row.kind == kind:
                    return _job(row), False
                raise NotfallError(
                    "job-conflict",
                    f"'{kind}' can't begin while the job {row.id} ({row.kind}) is not finished.",
                    f"Wait for it, or cancel it: notfall jobs --cancel {row.id}",
                    retry=True,
                    status=409,
                )
            connection.execute(
                insert(jobs).values(
                    id=job,
                    kind=kind,
                    primary=primary,
                    state="queued",
                    who=who,
                    created_at=now(),
                    progress={},
                    parameters=dict(parameters),
                    notes={},
                    result={},
                    cancel_requested=False,
                )
            )
        self._database.events.tell(JobChanged(job, primary, kind))
        return self.find(job), True

    def find(self, job: str) -> Job:
        with self._database.reading() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == job)).first()
        if row is None:
            raise NotfallError(
                "no-such-job", f"There is no job '{job[:80]}'.", "See 'notfall jobs'.", status=404
            )
        return _job(row)

    def unfinished(self, primary: str | None = None, kind: str | None = None) -> list[Job]:
        """Queued and running jobs, the oldest first."""
        wanted = select(jobs).where(jobs.c.state.in_(UNFINISHED)).order_by(jobs.c.created_at)
        if primary is not None:
            wanted = wanted.where(jobs.c.primary == primary)
        if kind is not None:
            wanted = wanted.where(jobs.c.kind == kind)
        with self._database.reading() as connection:
            return [_job(row) for row in connection.execute(wanted)]

    def newest(
        self, primary: str | None = None, kind: str | None = None, limit: int = 50
    ) -> list[Job]:
        """The newest first, in whatever state."""
        wanted = select(jobs).order_by(jobs.c.created_at.desc()).limit(limit)
        if primary is not None:
            wanted = wanted.where(jobs.c.primary == primary)
        if kind is not None:
            wanted = wanted.where(jobs.c.kind == kind)
        with self._database.reading() as connection:
            return [_job(row) for row in connection.execute(wanted)]

    def over(
        self,
        limit: int,
        before: str = "",
        primary: str | None = None,
        failed: bool = False,
    ) -> list[Job]:
        """Finished jobs, the last one first; ``before`` is the job from which to go on, ``failed``
        leaves out those that succeeded."""
        order = (jobs.c.finished_at.desc(), jobs.c.id.desc())
        wanted = select(jobs).where(jobs.c.finished_at.is_not(None)).order_by(*order).limit(limit)
        if before:
            last = self.find(before)
            place = tuple_(jobs.c.finished_at, jobs.c.id)
            wanted = wanted.where(place < tuple_(literal(last.finished_at, UtcTime), last.id))
        if primary is not None:
            wanted = wanted.where(jobs.c.primary == primary)
        if failed:
            wanted = wanted.where(jobs.c.state == "failed")
        with self._database.reading() as connection:
            return [_job(row) for row in connection.execute(wanted)]

    def unmended(self, primary: str | None = None) -> list[Job]:
        """Jobs that failed lately and after which none of their kind succeeded, newest first."""
        later = jobs.alias()
        mended = exists().where(
            later.c.primary.is_not_distinct_from(jobs.c.primary),  # None: the server's own
            later.c.kind == jobs.c.kind,
            later.c.state == "done",
            later.c.finished_at > jobs.c.finished_at,
        )
        wanted = select(jobs).where(
            jobs.c.state == "failed", jobs.c.finished_at > now() - LATELY, ~mended
        )
        if primary is not None:
            wanted = wanted.where(jobs.c.primary == primary)
        with self._database.reading() as connection:
            rows = connection.execute(wanted.order_by(jobs.c.finished_at.desc()))
            return [_job(row) for row in rows]

    def begin(self, job: str) -> Job:
        """It runs now; the first start is kept when it is started again."""
        started = self.find(job).started_at or now()
        return self._change(job, state="running", started_at=started)

    def set_progress(self, job: str, progress: Progress) -> None:
        self._change(job, lasting=False, progress=asdict(progress))

    def note(self, job: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Merge into the durable notes; None removes a key."""
        with self._database.writing() as connection:
            row = connection.execute(select(jobs.c.notes).where(jobs.c.id == job)).one()
            notes = {**row.notes, **values}
            notes = {key: value for key, value in notes.items() if value is not None}
            connection.execute(update(jobs).where(jobs.c.id == job).values(notes=notes))
        return notes

    def ask_cancel(self, job: str) -> Job:
        return self._change(job, cancel_requested=True)

    def finish(
        self,
        job: str,
        state: str,
        result: Mapping[str, Any] | None = None,
        error: NotfallError | None = None,
    ) -> Job:
        """It ended: ``state`` is done, failed or cancelled."""
        return self._change(
            job,
            state=state,
            finished_at=now(),
            result=dict(result or {}),
            error=error.to_json() if error else None,
        )

    def _change(self, job: str, lasting: bool = True, **values: Any) -> Job:
        with self._database.writing(lasting) as connection:
            connection.execute(update(jobs).where(jobs.c.id == job).values(**values))
            row = connection.execute(select(jobs).where(jobs.c.id == job)).one()
        changed = _job(row)
        self._database.events.tell(JobChanged(job, changed.primary, changed.kind))
        return changed


def _job(row: Row[Any]) -> Job:
    values = dict(row._mapping)
    values["progress"] = Progress(**row.progress)
    return Job(**values)
