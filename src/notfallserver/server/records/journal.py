"""The journal: what happened, when, by whom and why. Entries are added, never changed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, insert, or_, select, text

from notfallserver.server.records.database import Database, now
from notfallserver.server.records.tables import journal


@dataclass(frozen=True)
class Entry:
    """One line; ``from_state`` and ``to_state`` are empty where no state changed."""

    id: int
    at: datetime
    primary: str | None
    event: str
    who: str
    why: str
    from_state: str
    to_state: str
    details: dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """Which entries; what is empty doesn't count. ``since`` is inside, ``until`` outside."""

    primary: str | None = None
    events: Collection[str] = ()
    kind: str = ""
    """Of a version: replication or capture."""
    who: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def of(self, query: Select[Any]) -> Select[Any]:
        if self.primary is not None:
            query = query.where(journal.c.primary == self.primary)
        if self.events:
            query = query.where(journal.c.event.in_(sorted(self.events)))
        if self.kind:
            query = query.where(journal.c.details["kind"].as_string() == self.kind)
        if self.who:
            query = query.where(journal.c.who == self.who)
        if self.since is not None:
            query = query.where(journal.c.at >= self.since)
        if self.until is not None:
            query = query.where(journal.c.at < self.until)
        return query


ALL = Wanted()
AT_ONCE = 500
"""So many entries are in memory while all are read."""


def write_entry(
    connection: Connection,
    primary: str | None,
    event: str,
    who: str,
    why: str = "",
    from_state: str = "",
    to_state: str = "",
    details: Mapping[str, Any] | None = None,
) -> None:
    """Add an entry inside a larger transaction."""
    connection.execute(
        insert(journal).values(
            at=now(),
            primary=primary,
            event=event,
            who=who,
            why=why,
            from_state=from_state,
            to_state=to_state,
            details=dict(details or {}),
        )
    )


def _before(entry: int) -> ColumnElement[bool]:
    """Entries older than this one; those of one moment are ordered by id."""
    moment = select(journal.c.at).where(journal.c.id == entry).scalar_subquery()
    return or_(
        journal.c.at < moment,
        and_(journal.c.at == moment, journal.c.id < entry),
    )


class Journal:
    """The journal of this server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(
        self,
        primary: str | None,
        event: str,
        who: str,
        why: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Add an entry that is no change of state; those are written by ``Primaries.move``."""
        with self._database.writing() as connection:
            write_entry(connection, primary, event, who, why, details=details)

    def entries(
        self,
        primary: str | None = None,
        limit: int = 100,
        before: int | None = None,
        wanted: Wanted = ALL,
    ) -> list[Entry]:
        """The newest entries first; ``before`` is the id from which to go on."""
        if primary is not None:
            wanted = replace(wanted, primary=primary)
        order = (journal.c.at.desc(), journal.c.id.desc())
        query = wanted.of(select(journal)).order_by(*order).limit(limit)
        if before is not None:
            query = query.where(_before(before))
        with self._database.reading() as connection:
            return [Entry(**row._mapping) for row in connection.execute(query)]

    def all(self, wanted: Wanted) -> Iterator[Entry]:
        """All of them, newest first; for as long as it takes, nothing is held open."""
        before = None
        while found := self.entries(None, AT_ONCE, before, wanted):
            yield from found
            before = found[-1].id

    def people(self) -> list[str]:
        """Whoever is named in the journal, by name."""
        return self._occurring("who")

    def events(self) -> list[str]:
        """The kinds of entries that there are."""
        return self._occurring("event")

    def _occurring(self, column: str) -> list[str]:
        """The values of an indexed column: one step in the index each, whatever the number of
        entries."""
        steps = text(
            f"WITH RECURSIVE step(one) AS (SELECT min({column}) FROM journal UNION ALL "  # noqa: S608
            f"SELECT (SELECT min({column}) FROM journal WHERE {column} > one) FROM step "
            "WHERE one IS NOT NULL) SELECT one FROM step WHERE one IS NOT NULL"
        )
        with self._database.reading() as connection:
            return [row.one for row in connection.execute(steps)]

    def names_of_removed(self) -> dict[str, str]:
        """How those were called that are gone, by UUID."""
        query = select(journal.c.primary, journal.c.details).where(journal.c.event == "removed")
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(journal.c.id)).all()
        return {row.primary: str(row.details.get("name", "")) for row in rows}

    def since(self, entry: int, limit: int = 500) -> list[Entry]:
        """What came after this id, the oldest first."""
        query = select(journal).where(journal.c.id > entry).order_by(journal.c.id).limit(limit)
        with self._database.reading() as connection:
            return [Entry(**row._mapping) for row in connection.execute(query)]
