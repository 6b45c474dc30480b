"""Rules of the house: what administrators set for everybody, and the server's own small secrets."""

from __future__ import annotations

import secrets

from sqlalchemy import Connection

from notfallserver.server.records.database import Database
from notfallserver.server.records.events import SessionsEnded
from notfallserver.server.records.journal import write_entry
from notfallserver.server.records.notes import read_note, write_note

SECOND_FACTOR = "second_factor_required"
DEVICE_KEY = "device_key"


def second_factor_required(connection: Connection) -> bool:
    """Inside a larger transaction."""
    return bool(read_note(connection, SECOND_FACTOR))


class Rules:
    """The rules of this server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def second_factor_required(self) -> bool:
        with self._database.reading() as connection:
            return second_factor_required(connection)

    def require_second_factor(self, required: bool, who: str) -> None:
        """Whether everybody must have one; who has none is led to it at once."""
        with self._database.writing() as connection:
            if second_factor_required(connection) == required:
                return
            write_note(connection, SECOND_FACTOR, required)
            event = "second-factor-required" if required else "second-factor-optional"
            write_entry(connection, None, event, who)
        self._database.events.tell(SessionsEnded())

    def device_key(self) -> bytes:
        """Signs the mark that a browser gets with its first login; made when first asked for."""
        with self._database.writing() as connection:
            key = read_note(connection, DEVICE_KEY)
            if key is None:
                key = secrets.token_hex(32)
                write_note(connection, DEVICE_KEY, key)
        return bytes.fromhex(key)
