"""Receivers: who is told what is the matter, by which way.

The address (an Apprise URL) holds passwords and tokens: it leaves this module only to the program
that sends. What people and journal see is ``shown``.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from notfallserver.server.records.database import Database, now
from notfallserver.server.records.journal import write_entry
from notfallserver.server.records.tables import outbox, receivers
from notfallserver.wire.errors import NotfallError


class Kind(StrEnum):
    """How much a notice matters: act now, look at it soon, good to know."""

    URGENT = "urgent"
    WARNING = "warning"
    GOOD = "good"


class Summary(StrEnum):
    """How often a receiver is told how everything stands."""

    NEVER = "never"
    WEEKLY = "weekly"
    DAILY = "daily"


@dataclass(frozen=True)
class Receiver:
    """``shown`` is what of the address is no secret. ``failing_since``: nothing has arrived since;
    ``problem`` is what the other side said to that."""

    id: str
    name: str
    shown: str
    kinds: frozenset[Kind]
    language: str
    summary: Summary
    summed_up_at: datetime
    sent_at: datetime | None
    failing_since: datetime | None
    problem: str


@dataclass(frozen=True)
class Wanted:
    """What a person wants of a receiver; an empty ``address`` leaves it as it is."""

    name: str
    kinds: frozenset[Kind]
    language: str
    summary: Summary
    address: str = ""
    shown: str = ""


class Receivers:
    """All receivers of this server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[Receiver]:
        with self._database.reading() as connection:
            rows = connection.execute(select(receivers).order_by(receivers.c.name))
            return [_receiver(row) for row in rows]

    def find(self, name_or_id: str) -> Receiver:
        return _receiver(self._row(name_or_id))

    def address(self, receiver: str) -> str:
        """The secret address, for sending."""
        return str(self._row(receiver).address)

    def add(self, wanted: Wanted, who: str) -> Receiver:
        made = secrets.token_hex(8)
        with self._database.writing() as connection:
            _refuse_name(connection, wanted.name, "")
            moment = now()
            values = {**_values(wanted), "id": made, "summed_up_at": moment, "problem": ""}
            connection.execute(insert(receivers).values(values))
            write_entry(connection, None, "receiver-added", who, details=_told(wanted))
        return self.find(made)

    def change(self, receiver: str, wanted: Wanted, who: str) -> Receiver:
        """Another address makes a new start: what was wrong with the old one is forgotten."""
        values = _values(wanted)
        if wanted.address:
            values |= {"failing_since": None, "problem": ""}
        known = self.find(receiver)
        if known.summary is Summary.NEVER and wanted.summary is not Summary.NEVER:
            values["summed_up_at"] = now()
        with self._database.writing() as connection:
            _refuse_name(connection, wanted.name, known.id)
            connection.execute(update(receivers).where(receivers.c.id == known.id).values(values))
            write_entry(connection, None, "receiver-changed", who, details=_told(wanted))
        return self.find(known.id)

    def remove(self, receiver: str, who: str) -> None:
        """What waits for it is not sent any more."""
        known = self.find(receiver)
        with self._database.writing() as connection:
            connection.execute(delete(receivers).where(receivers.c.id == known.id))
            connection.execute(delete(outbox).where(outbox.c.receiver == known.id))
            write_entry(connection, None, "receiver-removed", who, details={"name": known.name})

    def arrived(self, receiver: str) -> None:
        """The other side took something."""
        self._note(receiver, sent_at=now(), failing_since=None, problem="")

    def failed(self, receiver: str, problem: str) -> None:
        """It did not; kept with when that began."""
        with self._database.writing() as connection:
            here = receivers.c.id == receiver
            connection.execute(update(receivers).where(here).values(problem=problem))
            connection.execute(
                update(receivers)
                .where(here, receivers.c.failing_since.is_(None))
                .values(failing_since=now())
            )

    def _note(self, receiver: str, **values: Any) -> None:
        with self._database.writing() as connection:
            connection.execute(update(receivers).where(receivers.c.id == receiver).values(**values))

    def _row(self, name_or_id: str) -> Row[Any]:
        wanted = select(receivers).where(
            (receivers.c.id == name_or_id) | (receivers.c.name == name_or_id)
        )
        with self._database.reading() as connection:
            row = connection.execute(wanted).first()
        if row is None:
            raise NotfallError(
                "no-such-receiver",
                f"Nobody called '{name_or_id[:80]}' is told anything.",
                "See 'notfall notice list'.",
                status=404,
            )
        return row


def _refuse_name(connection: Connection, name: str, own: str) -> None:
    wanted = select(receivers.c.id).where(receivers.c.name == name, receivers.c.id != own)
    if connection.execute(wanted).first():
        raise NotfallError(
            "receiver-exists", f"There is a '{name}' already.", "Take another name.", status=409
        )


def _values(wanted: Wanted) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": wanted.name,
        "kinds": _sorted(wanted.kinds),
        "language": wanted.language,
        "summary": wanted.summary,
    }
    if wanted.address:
        values |= {"address": wanted.address, "shown": wanted.shown}
    return values


def _told(wanted: Wanted) -> dict[str, Any]:
    """For the journal: never the address."""
    values = {key: one for key, one in _values(wanted).items() if key != "address"}
    return {**values, "new_address": bool(wanted.address)}


def _sorted(kinds: Collection[Kind]) -> list[str]:
    return [str(one) for one in Kind if one in kinds]


def _receiver(row: Row[Any]) -> Receiver:
    values = dict(row._mapping)
    del values["address"]
    values["kinds"] = frozenset(Kind(one) for one in row.kinds)
    values["summary"] = Summary(row.summary)
    return Receiver(**values)
