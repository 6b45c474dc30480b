"""People with their roles, their sessions, and the token of the command line.

Passwords are kept as argon2id hashes, tokens as SHA-256: they are random, a slow hash
would add nothing.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, insert, select, update

from notfallserver.server.host.files import replace_file
from notfallserver.server.records.database import Database, now
from notfallserver.server.records.journal import write_entry
from notfallserver.server.records.tables import people, sessions
from notfallserver.wire.errors import NotfallError

SESSION = timedelta(hours=12)

_hasher = PasswordHasher()
_DUMMY = _hasher.hash("no password")
_hashing = threading.BoundedSemaphore(2)
"""A hash takes 64 MiB: many logins at once must not take the server's memory."""


class Role(StrEnum):
    """What somebody may do; each may all that those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMINISTRATOR = "administrator"

    def covers(self, needed: Role) -> bool:
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True)
class Somebody:
    """Who is logged in; ``root`` is the command line."""

    name: str
    role: Role

    @property
    def operates(self) -> bool:
        return self.role.covers(Role.OPERATOR)

    @property
    def administers(self) -> bool:
        return self.role.covers(Role.ADMINISTRATOR)


class People:
    """Who may use this server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def has_administrator(self) -> bool:
        with self._database.reading() as connection:
            return (
                connection.execute(
                    select(people.c.name).where(people.c.role == Role.ADMINISTRATOR)
                ).first()
                is not None
            )

    def all(self) -> list[Somebody]:
        """Everybody with their roles, by name."""
        wanted = select(people.c.name, people.c.role).order_by(people.c.name)
        with self._database.reading() as connection:
            return [Somebody(row.name, Role(row.role)) for row in connection.execute(wanted)]

    def add(self, name: str, password: str, role: Role, who: str) -> None:
        """Somebody new."""
        with _hashing:
            hashed = _hasher.hash(password)
        row = {"name": name, "password_hash": hashed, "role": role}
        with self._database.writing() as connection:
            if connection.execute(select(people.c.name).where(people.c.name == name)).first():
                raise NotfallError(
                    "person-exists", f"There is a '{name}' already.", "Take another name."
                )
            connection.execute(insert(people).values(row))
            write_entry(connection, None, "person-added", who, details={"name": name, "role": role})

    def set_password(self, name: str, password: str, who: str, keep: str = "") -> None:
        """Change a password, or make an administrator; all sessions of this name end but the one
        with the token ``keep``."""
        with _hashing:
            hashed = _hasher.hash(password)
        with self._database.writing() as connection:
            changed = connection.execute(
                update(people).where(people.c.name == name).values(password_hash=hashed)
            )
            if not changed.rowcount:
                row = {"name": name, "password_hash": hashed, "role": Role.ADMINISTRATOR}
                connection.execute(insert(people).values(row))
            connection.execute(
                delete(sessions).where(
                    sessions.c.name == name,
                    sessions.c.expires_at.is_not(None),
                    sessions.c.token_hash != _hash(keep),
                )
            )
            write_entry(connection, None, "password-set", who, details={"name": name})

    def log_in(self, name: str, password: str) -> str:
        """Check a password and open a session; returns its token."""
        with self._database.reading() as connection:
            row = connection.execute(select(people).where(people.c.name == name)).first()
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

    def who(self, token: str) -> Somebody | None:
        """Whose session or token this is; None when nobody's or expired."""
        found = (
            select(sessions.c.name, sessions.c.expires_at, people.c.role)
            .join_from(sessions, people, people.c.name == sessions.c.name, isouter=True)
            .where(sessions.c.token_hash == _hash(token))
        )
        with self._database.reading() as connection:
            row = connection.execute(found).first()
        if row is None:
            return None
        if row.expires_at is None:
            return Somebody(row.name, Role.ADMINISTRATOR)
        if row.expires_at < now() or row.role is None:
            return None
        return Somebody(row.name, Role(row.role))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
