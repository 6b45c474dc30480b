"""Small things kept of the server itself, each a JSON value under its key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from notfallserver.server.records.database import Database
from notfallserver.server.records.journal import write_entry
from notfallserver.server.records.tables import notes


def read_note(connection: Connection, key: str) -> Any:
    """Inside a larger transaction; None where nothing was kept."""
    return connection.execute(select(notes.c.value).where(notes.c.key == key)).scalar()


def write_note(connection: Connection, key: str, value: Any) -> None:
    """Inside a larger transaction; None forgets it."""
    connection.execute(delete(notes).where(notes.c.key == key))
    if value is not None:
        connection.execute(insert(notes).values(key=key, value=value))


class Notes:
    """The notes of this server that are objects."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, key: str) -> dict[str, Any]:
        """Empty where nothing was kept."""
        with self._database.reading() as connection:
            return dict(read_note(connection, key) or {})

    def keep(
        self,
        key: str,
        value: Mapping[str, Any],
        event: str,
        who: str,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Replace what is kept under ``key``, and journal it as ``event``, with the value unless
        other ``details`` are told."""
        with self._database.writing() as connection:
            write_note(connection, key, dict(value))
            write_entry(
                connection, None, event, who, details=dict(value if details is None else details)
            )
