"""The token with which a monitoring may ask for figures, as its hash; without one nobody may."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime

from notfallserver.server.records.database import Database, now
from notfallserver.server.records.journal import write_entry
from notfallserver.server.records.notes import read_note, write_note

KEY = "metrics-token"


class MetricsToken:
    """At most one holds at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def make(self, who: str) -> str:
        """A new one, told here only; the one before holds no more."""
        token = secrets.token_urlsafe(32)
        kept = {"sha256": _hash(token), "since": now().isoformat()}
        with self._database.writing() as connection:
            write_note(connection, KEY, kept)
            write_entry(connection, None, "metrics-token-made", who)
        return token

    def drop(self, who: str) -> None:
        with self._database.writing() as connection:
            if read_note(connection, KEY) is not None:
                write_note(connection, KEY, None)
                write_entry(connection, None, "metrics-token-gone", who)

    def since(self) -> datetime | None:
        """When the one that holds was made; None where there is none."""
        kept = self._kept()
        return datetime.fromisoformat(kept["since"]) if kept else None

    def holds(self, token: str) -> bool:
        """Takes as long whether it is nearly right or not at all."""
        kept = self._kept()
        return kept is not None and hmac.compare_digest(_hash(token), kept["sha256"])

    def _kept(self) -> dict[str, str] | None:
        with self._database.reading() as connection:
            kept: dict[str, str] | None = read_note(connection, KEY)
        return kept


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
