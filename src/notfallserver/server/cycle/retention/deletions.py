"""Versions that somebody has ordered to be deleted: not at once, and not by one person alone.

An order waits for :attr:`Settings.deletion_hours`; until then every administrator can take it back.
Where two or more people are administrators, another one than who ordered has to confirm it before
it is due, else it lapses. Root's command line is a person called ``root``: it may order and
confirm, but does not count, because it is there on every server. Who is root could delete the files
anyway; what this keeps from happening is that one stolen password, or one bad day, ends the past.

Orders are kept in the primary's notes: with the catalogue they are lost, and nothing is deleted.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from notfallserver.server.records import Catalogue
from notfallserver.server.records.people import Role
from notfallserver.server.records.primaries import Primary
from notfallserver.wire.errors import NotfallError

DELETIONS = "deletions"
"""In a primary's notes."""


@dataclass(frozen=True)
class Deletion:
    """``at`` it was ordered, ``due`` it is carried out; ISO 8601 in UTC. ``second``: somebody else
    has to confirm it."""

    stamp: str
    who: str
    at: str
    due: str
    why: str = ""
    second: bool = False
    confirmed_by: str = ""

    @property
    def due_at(self) -> datetime:
        return datetime.fromisoformat(self.due)

    def awaits(self, administrators: int) -> bool:
        """Whether it still needs somebody, also where there was nobody else when it was ordered."""
        return (self.second or administrators > 1) and not self.confirmed_by


def read_deletions(notes: Mapping[str, Any]) -> dict[str, Deletion]:
    """By stamp."""
    return {stamp: Deletion(**one) for stamp, one in notes.get(DELETIONS, {}).items()}


@dataclass(frozen=True)
class Deletions:
    """The orders of one server. Thread-safe."""

    catalogue: Catalogue
    _writing: threading.Lock = field(default_factory=threading.Lock)

    def administrators(self) -> int:
        """How many people may delete, without root."""
        return sum(one.role is Role.ADMINISTRATOR for one in self.catalogue.people.all())

    def order(
        self, row: Primary, stamps: Iterable[str], hours: int, who: str, why: str, now: datetime
    ) -> list[Deletion]:
        """Have versions deleted after so many hours; what was ordered before stays as it is."""
        with self._writing:
            known = self._known(row)
            made = []
            for stamp in stamps:
                if stamp in known:
                    continue
                due = (now + timedelta(hours=hours)).isoformat(timespec="seconds")
                at = now.isoformat(timespec="seconds")
                second = self.administrators() > 1
                known[stamp] = Deletion(stamp, who, at, due, why[:1000], second)
                made.append(known[stamp])
            self._keep(row, known)
        for one in made:
            details = {"version": one.stamp, "due": one.due, "second": one.second}
            self.catalogue.journal.write(row.uuid, "deletion-ordered", who, one.why, details)
        return made

    def confirm(self, row: Primary, stamp: str, who: str) -> Deletion:
        """A second person agrees."""
        with self._writing:
            known = self._known(row)
            one = _need(known, stamp)
            if one.who.casefold() == who.casefold():
                raise NotfallError(
                    "same-person",
                    f"{who} ordered this deletion; somebody else has to confirm it.",
                    "Ask another administrator.",
                    status=403,
                )
            if not one.confirmed_by:
                known[stamp] = one = replace(one, confirmed_by=who)
                self._keep(row, known)
        self.catalogue.journal.write(
            row.uuid, "deletion-confirmed", who, details={"version": stamp, "ordered_by": one.who}
        )
        return one

    def take_back(self, row: Primary, stamp: str, who: str) -> None:
        """It stays after all."""
        one = self._forget(row, stamp)
        self.catalogue.journal.write(
            row.uuid, "deletion-taken-back", who, details={"version": stamp, "ordered_by": one.who}
        )

    def lapse(self, row: Primary, stamp: str) -> None:
        """Nobody confirmed it in time."""
        one = self._forget(row, stamp)
        self.catalogue.journal.write(
            row.uuid, "deletion-lapsed", "server", details={"version": stamp, "ordered_by": one.who}
        )

    def forget(self, row: Primary, there: Iterable[str]) -> None:
        """Orders for versions that are gone; ``there`` are the others."""
        with self._writing:
            known = self._known(row)
            left = {stamp: one for stamp, one in known.items() if stamp in set(there)}
            if left != known:
                self._keep(row, left)

    def _forget(self, row: Primary, stamp: str) -> Deletion:
        with self._writing:
            known = self._known(row)
            one = _need(known, stamp)
            del known[stamp]
            self._keep(row, known)
        return one

    def _known(self, row: Primary) -> dict[str, Deletion]:
        return read_deletions(self.catalogue.primaries.find(row.uuid).notes)

    def _keep(self, row: Primary, known: Mapping[str, Deletion]) -> None:
        told = {stamp: asdict(one) for stamp, one in known.items()}
        self.catalogue.primaries.note(row.uuid, **{DELETIONS: told or None})


def _need(known: Mapping[str, Deletion], stamp: str) -> Deletion:
    if stamp not in known:
        raise NotfallError(
            "no-deletion",
            f"Nobody has ordered that the version {stamp[:40]} is deleted.",
            "See 'notfall retention preview'.",
            status=404,
        )
    return known[stamp]
