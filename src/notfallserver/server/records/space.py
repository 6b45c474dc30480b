"""How full the pool was: one sample every few hours, for the forecast."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, insert, select

from notfallserver.server.records.database import Database
from notfallserver.server.records.tables import space

EVERY = timedelta(hours=6)
KEPT = timedelta(days=60)


@dataclass(frozen=True)
class Sample:
    """Bytes."""

    at: datetime
    size: int
    free: int


class Space:
    """The samples of this server's pool."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, sample: Sample) -> None:
        """Keep it, unless the last one is younger than :data:`EVERY`; old ones go."""
        with self._database.writing() as connection:
            last = connection.execute(select(func.max(space.c.at))).scalar()
            if last is not None and sample.at - EVERY < last <= sample.at:
                return
            # One from the future was made by a clock that went wrong.
            connection.execute(
                delete(space).where((space.c.at < sample.at - KEPT) | (space.c.at >= sample.at))
            )
            connection.execute(
                insert(space).values(at=sample.at, size=sample.size, free=sample.free)
            )

    def samples(self) -> list[Sample]:
        """The oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(select(space).order_by(space.c.at))
            return [Sample(row.at, row.size, row.free) for row in rows]
