"""Small things kept of the server itself, each a JSON object under its key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, select, update

from notfallserver.server.records.database import Database
from notfallserver.server.records.journal import write_entry
from notfallserver.server.records.tables import notes


class Notes:
    """The notes of this server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, key: str) -> dict[str, Any]:
        """Empty where nothing was kept."""
        wanted = select(notes.c.value).where(notes.c.key == key)
        with self._database.reading() as connection:
            row = connection.execute(wanted).first()
        return dict(row.value) if row else {}

    def keep(self, key: str, value: Mapping[str, Any], event: str, who: str) -> None:
        """Replace what is kept under ``key``, and journal it as ``event``."""
        with self._database.writing() as connection:
            kept = dict(value)
            changed = connection.execute(update(notes).where(notes.c.key == key).values(value=kept))
            if not changed.rowcount:
                connection.execute(insert(notes).values(key=key, value=kept))
            write_entry(connection, None, event, who, details=kept)
