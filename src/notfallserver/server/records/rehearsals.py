"""What came of rehearsals: the evidence that a copy starts. Kept until its primary is removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, insert, select, update

from notfallserver.server.records.database import Database, now
from notfallserver.server.records.events import PrimaryChanged
from notfallserver.server.records.tables import rehearsals


class Outcome(StrEnum):
    PASSED = "passed"  # all ports answered that the original serves
    FAILED = "failed"
    BROKEN_OFF = "broken-off"  # ended before anything was known


@dataclass(frozen=True)
class Rehearsal:
    """One rehearsal; ``id`` is its job's. ``answered_s`` seconds after its start the last of
    ``ports`` answered, ``silent`` did not. ``error`` (see ``wire.errors``) says why it did not
    pass, ``picture`` whether there is one of its screen. ``evidence`` is all that was tried (see
    ``pool.proof``). ``ended_at`` is None while it runs."""

    id: str
    primary: str
    version: str
    who: str
    began_at: datetime
    outcome: Outcome
    answered_s: float | None = None
    ports: Sequence[int] = field(default_factory=tuple)
    silent: Sequence[int] = field(default_factory=tuple)
    error: dict[str, Any] | None = None
    picture: bool = False
    evidence: dict[str, Any] | None = None
    ended_at: datetime | None = None


class Rehearsals:
    """All rehearsals of this server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, one: Rehearsal) -> None:
        """Write down what came of it, once."""
        values = {**asdict(one), "ports": list(one.ports), "silent": list(one.silent)}
        with self._database.writing() as connection:
            connection.execute(insert(rehearsals).values(**values))
        self._database.events.tell(PrimaryChanged(one.primary))

    def end(self, one: Rehearsal) -> None:
        """It is over: its machine is gone."""
        with self._database.writing() as connection:
            connection.execute(
                update(rehearsals).where(rehearsals.c.id == one.id).values(ended_at=now())
            )
        self._database.events.tell(PrimaryChanged(one.primary))

    def find(self, job: str) -> Rehearsal | None:
        with self._database.reading() as connection:
            row = connection.execute(select(rehearsals).where(rehearsals.c.id == job)).first()
        return _read(row._mapping) if row else None

    def of(self, primary: str, limit: int = 50) -> list[Rehearsal]:
        """The newest first."""
        wanted = (
            select(rehearsals)
            .where(rehearsals.c.primary == primary)
            .order_by(rehearsals.c.began_at.desc())
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [_read(row._mapping) for row in connection.execute(wanted)]

    def within(self, primary: str, since: datetime, until: datetime) -> list[Rehearsal]:
        """Those that began in this time, the newest first."""
        began = rehearsals.c.began_at
        wanted = (
            select(rehearsals)
            .where(rehearsals.c.primary == primary, began >= since, began < until)
            .order_by(began.desc())
        )
        with self._database.reading() as connection:
            return [_read(row._mapping) for row in connection.execute(wanted)]

    def last_telling(self, primary: str, until: datetime) -> Rehearsal | None:
        """The last one before ``until`` that passed or failed."""
        wanted = (
            select(rehearsals)
            .where(
                rehearsals.c.primary == primary,
                rehearsals.c.began_at < until,
                rehearsals.c.outcome != Outcome.BROKEN_OFF,
            )
            .order_by(rehearsals.c.began_at.desc())
            .limit(1)
        )
        with self._database.reading() as connection:
            row = connection.execute(wanted).first()
        return _read(row._mapping) if row else None

    def forget(self, primary: str) -> None:
        """With its primary."""
        with self._database.writing() as connection:
            connection.execute(delete(rehearsals).where(rehearsals.c.primary == primary))


def _read(row: Any) -> Rehearsal:
    return Rehearsal(**{**row, "outcome": Outcome(row["outcome"])})
