"""Preferences: settings that were changed while the server runs; they go before the file's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from notfallserver.server.records.database import Database
from notfallserver.server.records.journal import write_entry
from notfallserver.server.records.notes import write_note
from notfallserver.server.records.tables import notes

PREFIX = "settings."


class Preferences:
    """What was changed on the page or by the command line."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[str, Any]:
        wanted = select(notes).where(notes.c.key.startswith(PREFIX))
        with self._database.reading() as connection:
            rows = connection.execute(wanted)
            return {row.key.removeprefix(PREFIX): row.value for row in rows}

    def set(self, values: Mapping[str, Any], who: str) -> None:
        """Change some; None lets the file decide again."""
        with self._database.writing() as connection:
            for key, value in values.items():
                write_note(connection, PREFIX + key, value)
            write_entry(connection, None, "settings-changed", who, details=dict(values))
