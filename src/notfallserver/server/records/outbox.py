"""What is to be told and not yet sent, and what is known to stand.

Both are written in one transaction: whatever a power cut interrupts, a trouble that counts as told
has its message here, and one that has none is told again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update

from notfallserver.server.records.database import Database, now
from notfallserver.server.records.notes import read_note, write_note
from notfallserver.server.records.receivers import Kind
from notfallserver.server.records.tables import journal, outbox, receivers, troubles

_MARK = "told-until"
"""Up to which entry of the journal everything is told; a note of the server."""


@dataclass(frozen=True)
class Trouble:
    """Something that lasts. ``about`` is a primary's UUID or empty, ``what`` a text to translate.

    ``told_at`` is None while nobody was told; ``gone_at`` since when it is no longer seen.
    """

    key: str
    what: str
    about: str
    name: str
    kind: Kind
    since: datetime
    told_at: datetime | None = None
    gone_at: datetime | None = None


@dataclass(frozen=True)
class Letter:
    """A message for one receiver, in its language; ``papers`` are reports that go along: where they
    lie, and what they are called in it."""

    receiver: str
    title: str
    body: str
    kind: Kind
    papers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Waiting:
    """A letter that is not sent yet."""

    id: int
    letter: Letter
    written_at: datetime
    tries: int


class Outbox:
    """The outbox of this server, with what it remembers of what was told."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- what was told ---------------------------------------------------------------------------

    def troubles(self) -> list[Trouble]:
        with self._database.reading() as connection:
            rows = connection.execute(select(troubles).order_by(troubles.c.since))
            return [Trouble(**{**row._mapping, "kind": Kind(row.kind)}) for row in rows]

    def mark(self) -> int:
        """Up to which entry the journal was read; at first, up to its end."""
        with self._database.writing() as connection:
            known = read_note(connection, _MARK)
            if known is None:
                known = connection.execute(select(func.max(journal.c.id))).scalar() or 0
                write_note(connection, _MARK, known)
            return int(known)

    def tell(
        self,
        standing: Sequence[Trouble],
        mark: int,
        letters: Sequence[Letter],
        summed_up: Collection[str] = (),
    ) -> None:
        """Keep what stands now and up to where the journal was told, and put letters in.

        ``summed_up``: the receivers whose letters hold their regular summary.
        """
        moment = now()
        with self._database.writing() as connection:
            connection.execute(delete(troubles))
            if standing:
                connection.execute(insert(troubles), [asdict(one) for one in standing])
            write_note(connection, _MARK, mark)
            for one in letters:
                connection.execute(
                    insert(outbox).values(**asdict(one), written_at=moment, next_at=moment, tries=0)
                )
            connection.execute(
                update(receivers).where(receivers.c.id.in_(summed_up)).values(summed_up_at=moment)
            )

    # -- sending ---------------------------------------------------------------------------------

    def due(self, moment: datetime) -> dict[str, list[Waiting]]:
        """By receiver, the oldest first; all of a receiver when one of its letters is due."""
        found: dict[str, list[Waiting]] = {}
        ready = set()
        with self._database.reading() as connection:
            for row in connection.execute(select(outbox).order_by(outbox.c.id)):
                found.setdefault(row.receiver, []).append(_waiting(row))
                if row.next_at <= moment:
                    ready.add(row.receiver)
        return {receiver: found[receiver] for receiver in found if receiver in ready}

    def taken(self, letters: Sequence[Waiting]) -> None:
        """They arrived, or are given up."""
        with self._database.writing() as connection:
            connection.execute(delete(outbox).where(outbox.c.id.in_([one.id for one in letters])))

    def put_off(self, letters: Sequence[Waiting], until: datetime) -> None:
        with self._database.writing() as connection:
            connection.execute(
                update(outbox)
                .where(outbox.c.id.in_([one.id for one in letters]))
                .values(tries=outbox.c.tries + 1, next_at=until)
            )


def _waiting(row: Row[Any]) -> Waiting:
    letter = Letter(row.receiver, row.title, row.body, Kind(row.kind), row.papers)
    return Waiting(row.id, letter, row.written_at, row.tries)
