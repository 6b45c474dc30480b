"""What each version shows against the one it was made of, and alarms: ``measures.json``.

Numbers first, judgement elsewhere (``cycle/alarm``). Measures of versions that are gone stay for a
while: they are the history that the next one is compared with. The file is in the pool, so that
marks on versions outlive the catalogue. A file that can't be read costs history and marks; what an
alarm holds is held by its pin.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from notfallserver.server.host.files import read_json, replace_json
from notfallserver.server.pool import layout
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

FORMAT = 1
KEPT = 400
"""So many versions are remembered, also of those that are gone."""
KEPT_ALARMS = 20

_writing = threading.Lock()


@dataclass(frozen=True)
class FileMeasures:
    """What became of the files that the agent watches, since version ``since``.

    ``compared`` were there then and are watched now. ``renamed``: the same name with another
    extension; ``scrambled``: looks random now and did not (some are both: ``hit`` counts files).
    ``extension``: what most of the renamed have in common now, and ``alike`` how many have it.
    ``strange``: look random and are of no known kind, of all ``seen``; then and now.
    """

    since: str = ""
    compared: int = 0
    renamed: int = 0
    scrambled: int = 0
    hit: int = 0
    extension: str = ""
    alike: int = 0
    strange_before: int = 0
    seen_before: int = 0
    strange: int = 0
    seen: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measures:
    """One version against ``base``; counts of blocks (64 KiB).

    ``used`` of the base. Of the changed blocks ``rewritten`` had content before and after,
    ``fresh`` had none before, ``emptied`` have none now. Of each kind a sample was read:
    ``turned`` of ``rewritten_read`` held something and are random now, ``dark`` of them were random
    already, so that they say nothing; ``fresh_random`` of ``fresh_read``; ``content_gone`` of
    ``emptied_read`` held something that was not random. ``seconds``: what it cost.
    """

    base: str = ""
    used: int = 0
    rewritten: int = 0
    fresh: int = 0
    emptied: int = 0
    rewritten_read: int = 0
    turned: int = 0
    dark: int = 0
    fresh_read: int = 0
    fresh_random: int = 0
    emptied_read: int = 0
    content_gone: int = 0
    files: FileMeasures = FileMeasures()
    seconds: float = 0.0

    @property
    def changed(self) -> int:
        return self.rewritten + self.fresh + self.emptied

    @property
    def change_rate(self) -> float:
        """Changed blocks by those that were in use; 0 where there is nothing to compare with."""
        return self.changed / self.used if self.used else 0.0

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Measures:
        told = _known(cls, body)
        told["files"] = FileMeasures(**_known(FileMeasures, told.get("files", {})))
        return cls(**told)


class Answer(StrEnum):
    """What a person said of an alarm."""

    NONE = ""
    WELL = "well"
    ATTACK = "attack"


@dataclass(frozen=True)
class Reason:
    """Why there is an alarm: a stable key, and the numbers."""

    key: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Alarm:
    """Raised by version ``since``; ``clean`` is the last version before it without a trace, held by
    a pin, or empty. Versions made of ``since`` are suspect, up to ``until`` (empty: it lasts).
    Times are ISO 8601 in UTC. ``accepted``: what was reached, which a person called well."""

    since: str
    clean: str
    reasons: tuple[Reason, ...]
    raised_at: str
    answer: Answer = Answer.NONE
    who: str = ""
    why: str = ""
    answered_at: str = ""
    until: str = ""
    levels: Mapping[str, float] = field(default_factory=dict)

    @property
    def stands(self) -> bool:
        """Nobody said yet that all is well (again)."""
        return not self.until

    @property
    def marks(self) -> bool:
        """Whether its versions are suspect."""
        return self.answer is not Answer.WELL

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Alarm:
        told = _known(cls, body)
        told["answer"] = Answer(told.get("answer", ""))
        told["reasons"] = tuple(Reason(**one) for one in told.get("reasons", ()))
        return cls(**told)


class Derived(Protocol):
    """A version, whoever tells of it."""

    @property
    def stamp(self) -> str: ...

    @property
    def base(self) -> str: ...


def suspects(versions: Sequence[Derived], alarms: Sequence[Alarm]) -> set[str]:
    """The stamps of versions that hold what an alarm was raised about: those that were made of its
    version. What was made of an older one, as a stand-in's captures, is not. Pure."""
    found: set[str] = set()
    there = {one.stamp for one in versions}
    for alarm in alarms:
        if not alarm.marks:
            continue
        bad: set[str] = set()
        for one in sorted(versions, key=lambda each: each.stamp):
            if one.stamp < alarm.since or (alarm.until and one.stamp > alarm.until):
                continue
            unknown = one.base not in there  # what it was made of is gone: nobody can clear it
            if one.stamp == alarm.since or one.base in bad or unknown:
                bad.add(one.stamp)
        found |= bad
    return found


class MeasureRecord:
    """The record of one primary. Thread-safe."""

    def __init__(self, paths: layout.PrimaryPaths) -> None:
        self._path = paths.measures

    def all(self) -> dict[str, Measures]:
        """By stamp, the oldest first."""
        known = sorted(self._read()["versions"].items())
        return {stamp: Measures.from_json(one) for stamp, one in known}

    def keep(self, stamp: str, measures: Measures) -> None:
        """Durably, in place of what was known of this version."""
        with _writing:
            body = self._read()
            known = {**body["versions"], stamp: asdict(measures)}
            body["versions"] = dict(sorted(known.items())[-KEPT:])
            replace_json(self._path, body)

    def alarms(self) -> tuple[Alarm, ...]:
        """The oldest first; at most the last one stands."""
        return tuple(Alarm.from_json(one) for one in self._read()["alarms"])

    def standing(self) -> Alarm | None:
        return next((one for one in self.alarms() if one.stands), None)

    def keep_alarm(self, alarm: Alarm) -> None:
        """Durably; one that was raised by the same version is replaced."""
        with _writing:
            body = self._read()
            others = [one for one in body["alarms"] if one["since"] != alarm.since]
            told = sorted([*others, _alarm_json(alarm)], key=lambda one: str(one["since"]))
            body["alarms"] = told[-KEPT_ALARMS:]
            replace_json(self._path, body)

    def _read(self) -> dict[str, Any]:
        try:
            body = read_json(self._path)
            if body.get("format") == FORMAT:
                for one in body["versions"].values():
                    Measures.from_json(one)
                for one in body["alarms"]:
                    Alarm.from_json(one)
                return dict(body)
        except FileNotFoundError:
            return {"format": FORMAT, "versions": {}, "alarms": []}
        except (NotfallError, KeyError, TypeError, ValueError, AttributeError):
            pass
        log.error("%s cannot be read: what is usual is learned anew", self._path)
        return {"format": FORMAT, "versions": {}, "alarms": []}


def _alarm_json(alarm: Alarm) -> dict[str, Any]:
    plain = replace(alarm, reasons=(), levels=dict(alarm.levels))
    reasons = [{"key": one.key, "values": dict(one.values)} for one in alarm.reasons]
    return {**asdict(plain), "reasons": reasons}


T = TypeVar("T")


def _known(kind: type[Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """What a newer server knows beside is left out; lists become tuples."""
    names = {one.name for one in fields(kind)}
    return {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in body.items()
        if key in names
    }
