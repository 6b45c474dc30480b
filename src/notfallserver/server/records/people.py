"""People: administrators, their sessions, and the token of the command line.

Passwords are kept as argon2id hashes, tokens as SHA-256: they are random, a slow hash
would add nothing.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from datetime import timedelta
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, insert, select

from notfallserver.server.host.files import replace_file
from notfallserver.server.records.database import Database, now
from notfallserver.server.records.journal import write_entry
from notfallserver.server.records.tables import administrators, sessions
from notfallserver.wire.errors import NotfallError

SESSION = timedelta(hours=12)

_hasher = PasswordHasher()
_DUMMY = _hasher.hash("no password")
_hashing = threading.BoundedSemaphore(2)
"""A hash takes 64 MiB: many logins at once must not take the server's memory."""


class People:
    """Who may use this server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def has_administrator(self) -> bool:
        with self._database.reading() as connection:
            return connection.execute(select(administrators.c.name)).first() is not None

    def set_password(self, name: str, password: str, who: str) -> None:
        """Make or change an administrator; all sessions of this name end."""
        with _hashing:
            hashed = _hasher.hash(password)
        with self._database.writing() as connection:
            connection.execute(delete(administrators).where(administrators.c.name == name))
            connection.execute(insert(administrators).values(name=name, password_hash=hashed))
            connection.execute(
                delete(sessions).where(sessions.c.name == name, sessions.c.expires_at.is_not(None))
            )
            write_entry(connection, None, "password-set", who, details={"name": name})

    def log_in(self, name: str, password: str) -> str:
        """Check a password and open a session; returns its token."""
        with self._database.reading() as connection:
            row = connection.execute(
                select(administrators).where(administrators.c.name == name)
            ).first()
        with _hashing:
            try:
                _hasher.verify(row.password_hash if row else _DUMMY, password)
                good = row is not None
            except (VerificationError, InvalidHashError):
                good = False
        if not good:
            raise NotfallError(
                "login-refused", "Name or password is wrong.", "Try again.", status=401
            )
        token = secrets.token_urlsafe(32)
        with self._database.writing() as connection:
            connection.execute(delete(sessions).where(sessions.c.expires_at < now()))
            connection.execute(
                insert(sessions).values(
                    token_hash=_hash(token), name=name, expires_at=now() + SESSION
                )
            )
            write_entry(connection, None, "logged-in", name)
        return token

    def log_out(self, token: str) -> None:
        with self._database.writing() as connection:
            connection.execute(delete(sessions).where(sessions.c.token_hash == _hash(token)))

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
                insert(sessions).values(token_hash=_hash(token), name="root", expires_at=None)
            )

    def who(self, token: str) -> str | None:
        """Whose session or token this is; None when nobody's or expired."""
        with self._database.reading() as connection:
            row = connection.execute(
                select(sessions).where(sessions.c.token_hash == _hash(token))
            ).first()
        if row is None or (row.expires_at is not None and row.expires_at < now()):
            return None
        return str(row.name)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
