"""Primaries: who is protected, in which state, when last heard of.

The state is moved by compare and set together with its journal entry, in one transaction, so the
journal holds every transition. Which transitions exist is not decided here but in ``cycle.state``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, or_, select, update

from notfallserver.server.records.database import Database, now
from notfallserver.server.records.events import PrimaryChanged, PrimaryHeard
from notfallserver.server.records.journal import write_entry
from notfallserver.server.records.tables import primaries
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

AGENTLESS = "agentless"
"""In the notes of a primary whose copies are imported; it counts as long as no agent has called."""
AWAY = timedelta(seconds=30)
"""An agent that is silent for so long is news when it calls again."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)


@dataclass(frozen=True)
class Primary:
    """One protected server; ``newest_version`` is a stamp or empty."""

    uuid: str
    name: str
    state: str
    schedule_minutes: int
    capture_minutes: int
    enrolled_at: datetime
    last_seen: datetime | None
    agent_boot_id: str
    agent_role: str
    agent_version: str
    machine: Machine | None
    newest_version: str
    notes: dict[str, Any]


def check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise NotfallError(
            "bad-name",
            f"'{name[:80]}' can't be the name of a primary.",
            "Use 1 to 63 letters, digits, dots, dashes and underscores, beginning with a letter "
            "or digit.",
        )
    return name


def insert_primary(connection: Connection, uuid: str, name: str, **values: Any) -> None:
    """Add a row inside a larger transaction; a name in use is refused."""
    check_name(name)
    taken = connection.execute(
        select(primaries.c.uuid).where(primaries.c.name_key == name.lower())
    ).first()
    if taken:
        raise NotfallError(
            "name-in-use",
            f"There is already a primary '{name}'.",
            "Choose another name, or invite it again with --again.",
            status=409,
        )
    row = {"state": "new", "enrolled_at": now(), "notes": {}, **values}
    connection.execute(insert(primaries).values(uuid=uuid, name=name, name_key=name.lower(), **row))


class Primaries:
    """All primaries of this server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[Primary]:
        with self._database.reading() as connection:
            rows = connection.execute(select(primaries).order_by(primaries.c.name_key))
            return [_primary(row) for row in rows]

    def names(self) -> dict[str, str]:
        """What all are called, by UUID."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(primaries.c.uuid, primaries.c.name).order_by(primaries.c.name_key)
            )
            return {row.uuid: row.name for row in rows}

    def find(self, name_or_uuid: str) -> Primary:
        """By name (case doesn't matter) or UUID; it must exist."""
        key = name_or_uuid.lower()
        with self._database.reading() as connection:
            row = connection.execute(
                select(primaries).where(or_(primaries.c.uuid == key, primaries.c.name_key == key))
            ).first()
        if row is None:
            raise NotfallError(
                "no-such-primary",
                f"There is no primary '{name_or_uuid[:80]}'.",
                "See 'notfall primary list'.",
                status=404,
            )
        return _primary(row)

    def adopt_primary(
        self,
        uuid: str,
        name: str,
        machine: Machine | None,
        newest_version: str,
        state: str,
        schedule_minutes: int,
        capture_minutes: int,
    ) -> Primary:
        """Make a row of what the pool tells, unless there is one; nothing known is changed."""
        with self._database.writing() as connection:
            known = select(primaries.c.uuid).where(primaries.c.uuid == uuid)
            if connection.execute(known).first() is None:
                insert_primary(
                    connection,
                    uuid,
                    name,
                    state=state,
                    machine=machine,
                    newest_version=newest_version,
                    schedule_minutes=schedule_minutes,
                    capture_minutes=capture_minutes,
                )
                write_entry(
                    connection, uuid, "adopted", "server", "found in the pool", to_state=state
                )
        self._database.events.tell(PrimaryChanged(uuid))
        return self.find(uuid)

    def add_agentless(self, uuid: str, name: str, capture_minutes: int, who: str) -> Primary:
        """A primary of which images are imported; nothing is ordered from it by itself."""
        with self._database.writing() as connection:
            insert_primary(
                connection,
                uuid,
                name,
                schedule_minutes=0,
                capture_minutes=capture_minutes,
                notes={AGENTLESS: True},
            )
            write_entry(connection, uuid, "added", who, to_state="new")
        self._database.events.tell(PrimaryChanged(uuid))
        return self.find(uuid)

    def move(
        self,
        uuid: str,
        from_state: str,
        to_state: str,
        event: str,
        who: str,
        why: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> Primary:
        """Change the state and journal it; refused when it is no longer ``from_state``."""
        with self._database.writing() as connection:
            moved = connection.execute(
                update(primaries)
                .where(primaries.c.uuid == uuid, primaries.c.state == from_state)
                .values(state=to_state)
            )
            if moved.rowcount != 1:
                raise NotfallError(
                    "state-changed",
                    f"The primary is no longer in state '{from_state}'.",
                    "Look at its state and decide again.",
                    retry=True,
                    status=409,
                )
            write_entry(connection, uuid, event, who, why, from_state, to_state, details)
        self._database.events.tell(PrimaryChanged(uuid))
        return self.find(uuid)

    def saw_agent(
        self, uuid: str, boot_id: str, role: str, version: str, machine: Machine | None = None
    ) -> None:
        """Note a sign of life; ``machine`` where the agent sent new facts."""
        told: dict[str, Any] = {
            "agent_boot_id": boot_id,
            "agent_role": role,
            "agent_version": version,
        }
        if machine is not None:
            told["machine"] = machine
        with self._database.writing(lasting=False) as connection:
            before = connection.execute(select(primaries).where(primaries.c.uuid == uuid)).first()
            connection.execute(
                update(primaries).where(primaries.c.uuid == uuid).values(last_seen=now(), **told)
            )
        known = before is not None and all(before._mapping[key] == told[key] for key in told)
        # Of one that was silent for long a page must tell that it is there again.
        silent = before is None or before.last_seen is None or now() - before.last_seen > AWAY
        changed = PrimaryChanged(uuid) if silent or not known else PrimaryHeard(uuid)
        self._database.events.tell(changed)

    def set_schedule(
        self, uuid: str, schedule_minutes: int | None, capture_minutes: int | None, who: str
    ) -> Primary:
        """Minutes between runs, 0 = only on request, None = as it was."""
        values = {
            key: minutes
            for key, minutes in (
                ("schedule_minutes", schedule_minutes),
                ("capture_minutes", capture_minutes),
            )
            if minutes is not None
        }
        if values:
            with self._database.writing() as connection:
                connection.execute(
                    update(primaries).where(primaries.c.uuid == uuid).values(**values)
                )
                write_entry(connection, uuid, "schedule-changed", who, details=values)
            self._database.events.tell(PrimaryChanged(uuid))
        return self.find(uuid)

    def new_version(self, uuid: str, stamp: str, machine: Machine | None = None) -> None:
        """Note the newest version; the pool is what counts, this is for showing it quickly."""
        values: dict[str, Any] = {"newest_version": stamp}
        if machine is not None:
            values["machine"] = machine
        self._change(uuid, values)

    def note(self, uuid: str, **values: Any) -> dict[str, Any]:
        """Merge into the durable notes of this primary; None removes a key."""
        with self._database.writing() as connection:
            row = connection.execute(
                select(primaries.c.notes).where(primaries.c.uuid == uuid)
            ).first()
            notes = {**(row.notes if row else {}), **values}
            notes = {key: value for key, value in notes.items() if value is not None}
            connection.execute(
                update(primaries).where(primaries.c.uuid == uuid).values(notes=notes)
            )
        self._database.events.tell(PrimaryChanged(uuid))
        return notes

    def remove(self, uuid: str, who: str, why: str = "") -> None:
        """Forget a primary; its journal stays."""
        name = self.find(uuid).name
        with self._database.writing() as connection:
            connection.execute(delete(primaries).where(primaries.c.uuid == uuid))
            write_entry(connection, uuid, "removed", who, why, details={"name": name})
        self._database.events.tell(PrimaryChanged(uuid))

    def _change(self, uuid: str, values: Mapping[str, Any], lasting: bool = True) -> None:
        with self._database.writing(lasting) as connection:
            connection.execute(update(primaries).where(primaries.c.uuid == uuid).values(**values))
        self._database.events.tell(PrimaryChanged(uuid))


def _primary(row: Row[Any]) -> Primary:
    values = dict(row._mapping)
    del values["name_key"]
    return Primary(**values)
