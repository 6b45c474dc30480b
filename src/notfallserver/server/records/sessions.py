"""Who is logged in: sessions of people, and the token of the command line.

Tokens are kept as SHA-256: they are random, a slow hash would add nothing.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import delete, insert, select, update

from notfallserver.server.host.files import replace_file
from notfallserver.server.records.database import Database, now
from notfallserver.server.records.events import SessionsEnded
from notfallserver.server.records.journal import write_entry
from notfallserver.server.records.people import (
    ROOT,
    Role,
    Somebody,
    end_sessions,
    hash_token,
)
from notfallserver.server.records.rules import second_factor_required
from notfallserver.server.records.tables import people, sessions

LIFETIME = timedelta(hours=12)
SEEN_EVERY = timedelta(minutes=1)
"""Use is written down at most so often: a page asks every second."""


@dataclass(frozen=True)
class Session:
    """One of somebody's sessions; times are None for one of an older program."""

    started_at: datetime | None
    seen_at: datetime | None
    address: str
    mine: bool
    """Whether it is the one that asks."""


class Sessions:
    """Who is logged in."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, name: str, address: str) -> str:
        """A session for somebody who has proved to be this person; returns its token."""
        token = secrets.token_urlsafe(32)
        moment = now()
        with self._database.writing() as connection:
            connection.execute(delete(sessions).where(sessions.c.expires_at < moment))
            connection.execute(
                insert(sessions).values(
                    token_hash=hash_token(token),
                    name=name,
                    expires_at=moment + LIFETIME,
                    started_at=moment,
                    seen_at=moment,
                    address=address[:45],
                )
            )
            write_entry(connection, None, "logged-in", name, details={"address": address})
        return token

    def who(self, token: str) -> Somebody | None:
        """Whose session or token this is; None when nobody's or expired."""
        found = (
            select(sessions.c.name, sessions.c.expires_at, people.c.role, people.c.totp_secret)
            .join_from(sessions, people, people.c.name == sessions.c.name, isouter=True)
            .where(sessions.c.token_hash == hash_token(token))
        )
        with self._database.reading() as connection:
            row = connection.execute(found).first()
            if row is None:
                return None
            if row.expires_at is None:
                return Somebody(row.name, Role.ADMINISTRATOR)
            if row.expires_at < now() or row.role is None:
                return None
            bare = not row.totp_secret and second_factor_required(connection)
        return Somebody(row.name, Role(row.role), bare)

    def saw(self, token: str) -> None:
        """Write down that it is in use; cheap, because it is seldom written."""
        with self._database.reading() as connection:
            row = connection.execute(
                select(sessions.c.seen_at).where(
                    sessions.c.token_hash == hash_token(token), sessions.c.expires_at.is_not(None)
                )
            ).first()
        if row is None or (row.seen_at and now() - row.seen_at < SEEN_EVERY):
            return
        with self._database.writing(lasting=False) as connection:
            connection.execute(
                update(sessions)
                .where(sessions.c.token_hash == hash_token(token))
                .values(seen_at=now())
            )

    def of(self, name: str, token: str = "") -> list[Session]:
        """All of a person, the one with ``token`` first, then the newest."""
        wanted = select(sessions).where(sessions.c.name == name, sessions.c.expires_at > now())
        with self._database.reading() as connection:
            rows = connection.execute(wanted.order_by(sessions.c.started_at.desc())).all()
        found = [
            Session(row.started_at, row.seen_at, row.address, row.token_hash == hash_token(token))
            for row in rows
        ]
        return sorted(found, key=lambda one: not one.mine)

    def end(self, token: str) -> None:
        with self._database.writing() as connection:
            connection.execute(delete(sessions).where(sessions.c.token_hash == hash_token(token)))

    def end_others(self, name: str, token: str) -> None:
        """All of a person but the one with ``token``."""
        with self._database.writing() as connection:
            if end_sessions(connection, name, token):
                write_entry(connection, None, "sessions-ended", name, details={"name": name})
        self._database.events.tell(SessionsEnded())

    def keep_cli_token(self, path: Path) -> None:
        """See that the token in ``path``, readable by root only, opens this server.

        Made if it is missing; known again if the catalogue was lost.
        """
        token = path.read_text("ascii").strip() if path.exists() else ""
        if len(token) < 32:
            token = secrets.token_hex(32)
            replace_file(path, token.encode() + b"\n", 0o600)
        if self.who(token) is not None:
            return
        with self._database.writing() as connection:
            connection.execute(delete(sessions).where(sessions.c.expires_at.is_(None)))
            connection.execute(
                insert(sessions).values(token_hash=hash_token(token), name=ROOT, expires_at=None)
            )
