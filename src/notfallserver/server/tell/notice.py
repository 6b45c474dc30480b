"""What is told, and what the web must bring along for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Protocol, TypeVar

from notfallserver.server.records.receivers import Kind


@dataclass(frozen=True)
class Seen:
    """A trouble as it is seen now.

    ``what`` is a text to translate, ``about`` a primary's UUID (empty: the emergency server).
    It is told when it lasted as long as ``patience``.
    """

    key: str
    what: str
    about: str
    name: str
    kind: Kind
    patience: timedelta = timedelta(0)


class How(StrEnum):
    BEGUN = "begun"
    STILL = "still"
    OVER = "over"
    HAPPENED = "happened"


@dataclass(frozen=True)
class Notice:
    """One thing to tell to whoever wants one of ``kinds``; ``what`` is a text to translate.

    ``report`` is the month whose report goes along, as 2026-10, or empty.
    """

    how: How
    what: str
    about: str
    name: str
    kinds: frozenset[Kind]
    report: str = ""

    @property
    def kind(self) -> Kind:
        """The most important of its kinds."""
        return next(one for one in Kind if one in self.kinds)


@dataclass(frozen=True)
class Message:
    """In a reader's language; plain text. ``papers`` are reports that mail takes along: where they
    lie, and what they are called there."""

    title: str
    body: str
    papers: Mapping[str, str] = field(default_factory=dict)


class Look(Protocol):
    """How everything stands at one moment. ``hushed``: keys of troubles whose end is no news,
    because something else is told instead."""

    @property
    def seen(self) -> Sequence[Seen]: ...

    @property
    def hushed(self) -> Collection[str]: ...


L = TypeVar("L", bound=Look)


class Reporter(Protocol[L]):
    """Looks, and finds the words."""

    def look(self) -> L | None:
        """None while not everything is known, as after a start."""

    def event(self, event: str) -> str:
        """What the journal calls so, as a text to translate."""

    def write(self, language: str, notices: Sequence[Notice], look: L) -> Message: ...

    def sum_up(self, language: str, look: L) -> Message: ...

    def greet(self, language: str) -> Message:
        """The message of a test."""
