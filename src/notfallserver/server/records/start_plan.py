"""The start plan: in which order servers start when several are down. Who has no place of its own
comes last, by name, so a plan exists from the first server on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from notfallserver.server.records.database import Database
from notfallserver.server.records.events import PrimaryChanged
from notfallserver.server.records.journal import write_entry
from notfallserver.server.records.start_place import Begins, IfFails, Place
from notfallserver.server.records.tables import primaries, start_plan

Change = Callable[[Sequence[Place]], Sequence[Place]]


class StartPlan:
    """The plan of this server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[Place]:
        """All primaries in the plan's order."""
        with self._database.reading() as connection:
            return _read(connection)

    def of(self, primary: str) -> Place:
        with self._database.reading() as connection:
            wanted = select(start_plan).where(start_plan.c.primary == primary)
            row = connection.execute(wanted).first()
        return _place(row._mapping) if row else Place(primary)

    def change(self, change: Change, who: str) -> list[Place]:
        """Replace the plan by what ``change`` makes of it, and journal it."""
        with self._database.writing() as connection:
            before = _read(connection)
            after = list(change(before))
            if after == before:
                return before
            connection.execute(delete(start_plan))
            for place, one in enumerate(after):
                connection.execute(insert(start_plan).values(place=place, **asdict(one)))
            names = _names(connection)
            order = [names[one.primary] for one in after]
            write_entry(connection, None, "start-plan-changed", who, details={"order": order})
        for one in after:
            if one not in before:
                self._database.events.tell(PrimaryChanged(one.primary))
        self._database.events.tell(PrimaryChanged(after[0].primary))
        return after


def _names(connection: Connection) -> dict[str, str]:
    rows = connection.execute(
        select(primaries.c.uuid, primaries.c.name).order_by(primaries.c.name_key)
    )
    return {row.uuid: row.name for row in rows}


def _read(connection: Connection) -> list[Place]:
    """Rows of primaries that were removed are passed over."""
    known = _names(connection)
    rows = connection.execute(select(start_plan).order_by(start_plan.c.place))
    placed = [_place(row._mapping) for row in rows if row.primary in known]
    rest = known.keys() - {one.primary for one in placed}
    return [*placed, *(Place(uuid) for uuid in known if uuid in rest)]


def _place(row: Mapping[Any, Any]) -> Place:
    values = {key: value for key, value in row.items() if key != "place"}
    values["begins"], values["if_fails"] = Begins(values["begins"]), IfFails(values["if_fails"])
    return Place(**values)
