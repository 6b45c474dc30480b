"""The journal: what happened, when, by whom and why. Entries are added, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from notfallserver.server.records.database import Database, now
from notfallserver.server.records.tables import journal


@dataclass(frozen=True)
class Entry:
    """One line; ``from_state`` and ``to_state`` are empty where no state changed."""

    id: int
    at: datetime
    primary: str | None
    event: str
    who: str
    why: str
    from_state: str
    to_state: str
    details: dict[str, Any]


def write_entry(
    connection: Connection,
    primary: str | None,
    event: str,
    who: str,
    why: str = "",
    from_state: str = "",
    to_state: str = "",
    details: Mapping[str, Any] | None = None,
) -> None:
    """Add an entry inside a larger transaction."""
    connection.execute(
        insert(journal).values(
            at=now(),
            primary=primary,
            event=event,
            who=who,
            why=why,
            from_state=from_state,
            to_state=to_state,
            details=dict(details or {}),
        )
    )


class Journal:
    """The journal of this server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(
        self,
        primary: str | None,
        event: str,
        who: str,
        why: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Add an entry that is no change of state; those are written by ``Primaries.move``."""
        with self._database.writing() as connection:
            write_entry(connection, primary, event, who, why, details=details)

    def entries(
        self, primary: str | None = None, limit: int = 100, before: int | None = None
    ) -> list[Entry]:
        """The newest entries first; ``before`` is the id from which to go on."""
        wanted = select(journal).order_by(journal.c.id.desc()).limit(limit)
        if primary is not None:
            wanted = wanted.where(journal.c.primary == primary)
        if before is not None:
            wanted = wanted.where(journal.c.id < before)
        with self._database.reading() as connection:
            return [Entry(**row._mapping) for row in connection.execute(wanted)]

    def since(self, entry: int, limit: int = 500) -> list[Entry]:
        """What came after this id, the oldest first."""
        wanted = select(journal).where(journal.c.id > entry).order_by(journal.c.id).limit(limit)
        with self._database.reading() as connection:
            return [Entry(**row._mapping) for row in connection.execute(wanted)]
