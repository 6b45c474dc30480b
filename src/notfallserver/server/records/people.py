"""People with their roles. Whoever loses rights is logged out in the same transaction."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from notfallserver.server.records.database import Database
from notfallserver.server.records.events import SessionsEnded
from notfallserver.server.records.journal import write_entry
from notfallserver.server.records.passwords import fits, hash_password, require_good
from notfallserver.server.records.tables import people, recovery_codes, sessions
from notfallserver.wire.errors import NotfallError

ROOT = "root"
"""Who calls by the command line."""
RESERVED = frozenset({ROOT, "server"})
"""The journal calls the command line and the server itself so."""
_NAME = re.compile(r"\w[\w .@+-]{0,61}[\w.]|\w")


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
    bare: bool = False
    """Has no second factor though everybody must: may do nothing but set one up."""

    @property
    def operates(self) -> bool:
        return self.role.covers(Role.OPERATOR)

    @property
    def administers(self) -> bool:
        return self.role.covers(Role.ADMINISTRATOR)


@dataclass(frozen=True)
class Member:
    """Somebody who may log in; ``recovery_codes`` counts those that are left."""

    name: str
    role: Role
    second_factor: bool
    recovery_codes: int


class People:
    """Who may use this server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[Member]:
        """Sorted by name."""
        with self._database.reading() as connection:
            rows = connection.execute(_members()).all()
        return sorted(map(_member, rows), key=lambda one: one.name.casefold())

    def find(self, name: str) -> Member:
        """Raises ``no-such-person``."""
        with self._database.reading() as connection:
            row = connection.execute(_members().where(people.c.name == name)).first()
        if row is None:
            raise _unknown(name)
        return _member(row)

    def has_administrator(self) -> bool:
        with self._database.reading() as connection:
            return _administrators(connection) > 0

    def add(self, name: str, password: str, role: Role, who: str) -> None:
        """Somebody new; names that differ only in capitals are the same."""
        if not _NAME.fullmatch(name) or name.casefold() in RESERVED:
            raise NotfallError(
                "bad-person-name",
                f"'{name[:63]}' can't be the name of a person here.",
                "Use letters, digits, spaces, dots and hyphens.",
            )
        require_good(password, name)
        hashed = hash_password(password)
        with self._database.writing() as connection:
            taken = connection.execute(select(people.c.name)).scalars()
            if name.casefold() in {one.casefold() for one in taken}:
                raise NotfallError(
                    "person-exists", f"There is a '{name}' already.", "Take another name."
                )
            connection.execute(insert(people).values(name=name, password_hash=hashed, role=role))
            write_entry(connection, None, "person-added", who, details={"name": name, "role": role})

    def keep_administrator(self, name: str, password: str, who: str) -> None:
        """This one is an administrator with this password, whatever was before."""
        try:
            self.set_role(name, Role.ADMINISTRATOR, who)
        except NotfallError:
            self.add(name, password, Role.ADMINISTRATOR, who)
        else:
            self.set_password(name, password, who)

    def set_role(self, name: str, role: Role, who: str) -> None:
        """Another role; the person's sessions end. One administrator must be left."""
        with self._database.writing() as connection:
            before = connection.execute(
                select(people.c.role).where(people.c.name == name)
            ).scalar_one_or_none()
            if before is None:
                raise _unknown(name)
            if before == role:
                return
            connection.execute(update(people).where(people.c.name == name).values(role=role))
            _require_administrator(connection)
            end_sessions(connection, name)
            details = {"name": name, "role": role, "before": before}
            write_entry(connection, None, "role-changed", who, details=details)
        self._database.events.tell(SessionsEnded())

    def set_password(self, name: str, password: str, who: str, keep: str = "") -> None:
        """Another password; all sessions of this name end but the one with the token ``keep``."""
        require_good(password, name)
        hashed = hash_password(password)
        with self._database.writing() as connection:
            changed = connection.execute(
                update(people).where(people.c.name == name).values(password_hash=hashed)
            )
            if not changed.rowcount:
                raise _unknown(name)
            end_sessions(connection, name, keep)
            write_entry(connection, None, "password-set", who, details={"name": name})
        self._database.events.tell(SessionsEnded())

    def knows(self, name: str, password: str) -> str:
        """The hash that is kept if this is the person's password, else nothing.

        Takes as long where there is no such person.
        """
        kept = self.kept(name)
        return kept if fits(password, kept) else ""

    def kept(self, name: str) -> str:
        """The password's hash: another one when the password was changed; "" for nobody."""
        with self._database.reading() as connection:
            found = select(people.c.password_hash).where(people.c.name == name)
            return connection.execute(found).scalar_one_or_none() or ""

    def remove(self, name: str, who: str) -> None:
        """Gone, with sessions and recovery codes. One administrator must be left."""
        with self._database.writing() as connection:
            gone = connection.execute(delete(people).where(people.c.name == name))
            if not gone.rowcount:
                raise _unknown(name)
            _require_administrator(connection)
            end_sessions(connection, name)
            connection.execute(delete(recovery_codes).where(recovery_codes.c.name == name))
            write_entry(connection, None, "person-removed", who, details={"name": name})
        self._database.events.tell(SessionsEnded())


def hash_token(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def end_sessions(connection: Connection, name: str, keep: str = "") -> int:
    """All of this person but the one with the token ``keep``; returns how many."""
    return connection.execute(
        delete(sessions).where(
            sessions.c.name == name,
            sessions.c.expires_at.is_not(None),
            sessions.c.token_hash != hash_token(keep),
        )
    ).rowcount


def _members() -> Any:
    left = (
        select(func.count())
        .select_from(recovery_codes)
        .where(recovery_codes.c.name == people.c.name)
        .scalar_subquery()
    )
    return select(people.c.name, people.c.role, people.c.totp_secret, left.label("left"))


def _member(row: Row[Any]) -> Member:
    return Member(row.name, Role(row.role), bool(row.totp_secret), row.left)


def _administrators(connection: Connection) -> int:
    found = select(func.count()).where(people.c.role == Role.ADMINISTRATOR)
    return connection.execute(found).scalar_one()


def _require_administrator(connection: Connection) -> None:
    """Raises, and so takes the whole transaction back."""
    if not _administrators(connection):
        raise NotfallError(
            "last-administrator",
            "Nobody would be left who may add people and change settings.",
            "Make somebody else an administrator first.",
            status=409,
        )


def _unknown(name: str) -> NotfallError:
    return NotfallError(
        "no-such-person",
        f"There is nobody called '{name[:63]}' here.",
        "See: notfall people list",
        status=404,
    )
