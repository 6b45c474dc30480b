"""What proves that a version starts: ``proofs.json`` beside the versions.

For each version the last rehearsal that found something out counts, step by step; the grade is
what that comes to (pure). A step that could not be tried proves nothing and refutes nothing. The
file is in the pool, so that it outlives the catalogue; losing it costs a rehearsal, no data.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from notfallserver.server.host.files import read_json, replace_json
from notfallserver.server.pool import layout
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

FORMAT = 1

_writing = threading.Lock()


class Grade(StrEnum):
    """How much is proved of a version, the least first."""

    NONE = "none"
    PREPARED = "prepared"
    CHECKED = "checked"  # all its file systems are sound
    STARTED = "started"  # its system answered in a network without a way out
    LOGIN = "login"  # somebody could log in at its screen
    SERVING = "serving"  # what the original serves answered, and one's own checks passed
    EQUAL = "equal"  # files hold what the original's agent told of them

    def reaches(self, other: Grade) -> bool:
        order = list(Grade)
        return order.index(self) >= order.index(other)


class Standing(StrEnum):
    """What a version's proof says about starting it."""

    PROVEN = "proven"  # it started, and nothing that was tried failed
    UNPROVEN = "unproven"
    REFUTED = "refuted"  # it did not start


class Tried(StrEnum):
    """What came of one step."""

    PASSED = "passed"
    FAILED = "failed"
    NOT = "not-tried"


class VolumeState(StrEnum):
    """What a check said of a file system."""

    CLEAN = "clean"
    DAMAGED = "damaged"
    SKIPPED = "skipped"  # swap, encrypted, or nothing that a check is known for


@dataclass(frozen=True)
class VolumeCheck:
    """One volume; ``told`` is the end of what its check printed, or why there was none."""

    volume: str
    filesystem: str
    state: VolumeState
    told: str = ""


@dataclass(frozen=True)
class ServiceCheck:
    """One of a server's own checks; ``told`` says what came instead, where it failed."""

    name: str
    passed: bool
    told: str = ""


@dataclass(frozen=True)
class Evidence:
    """What was tried in one rehearsal (its job is ``rehearsal``), begun ``at`` (ISO 8601, UTC).

    ``unchecked``: why the file systems could not be checked. ``started`` is None where the machine
    never got as far as running. ``start_s``: seconds until all that was waited for was there.
    ``system`` is what its systemd says of itself, ``failed_units`` what did not start in it,
    ``failed_before`` those of them that had failed in the original, too, when it was copied.
    ``login``: whether somebody could log in, ``login_before``: whether that was so in the original.
    Empty and None where its agent, or that of the original, could not tell.
    ``compared``: so many files were, ``differing`` are the paths of those not as the agent told.
    """

    rehearsal: str = ""
    at: str = ""
    volumes: tuple[VolumeCheck, ...] = ()
    unchecked: str = ""
    started: bool | None = None
    start_s: float | None = None
    ports: tuple[int, ...] = ()
    silent: tuple[int, ...] = ()
    checks: tuple[ServiceCheck, ...] = ()
    system: str = ""
    failed_units: tuple[str, ...] = ()
    failed_before: tuple[str, ...] | None = None
    login: bool | None = None
    login_before: bool | None = None
    compared: int = 0
    differing: tuple[str, ...] = ()
    picture: bool = False

    @property
    def damaged(self) -> tuple[VolumeCheck, ...]:
        return tuple(one for one in self.volumes if one.state is VolumeState.DAMAGED)

    @property
    def failed_checks(self) -> tuple[ServiceCheck, ...]:
        return tuple(one for one in self.checks if not one.passed)

    @property
    def newly_failed(self) -> tuple[str, ...]:
        """What failed in the copy alone. It may lack other machines: it is told, and fails no step;
        what must be there is for the ports and one's own checks to say."""
        before = self.failed_units if self.failed_before is None else self.failed_before
        return tuple(one for one in self.failed_units if one not in before)

    @property
    def lacks_login(self) -> bool:
        """Nobody could log in, as one can at the original; where that has none, none is lacking."""
        return self.login is False and bool(self.login_before)

    def steps(self) -> dict[Grade, Tried]:
        """What came of each step after the preparation, in order."""
        clean = any(one.state is VolumeState.CLEAN for one in self.volumes)
        served = bool(self.ports or self.checks or self.silent)
        fell_short = bool(self.silent or self.failed_checks)
        return {
            Grade.CHECKED: _tried(clean or bool(self.damaged), bool(self.damaged)),
            Grade.STARTED: _tried(self.started is not None, not self.started),
            Grade.LOGIN: _tried(
                bool(self.started) and (self.login is True or self.lacks_login), self.lacks_login
            ),
            Grade.SERVING: _tried(bool(self.started) and served, fell_short),
            Grade.EQUAL: _tried(bool(self.started) and self.compared > 0, bool(self.differing)),
        }

    def failed_step(self) -> Grade | None:
        """The first that failed."""
        return next((step for step, came in self.steps().items() if came is Tried.FAILED), None)

    @property
    def tells_something(self) -> bool:
        """Whether it says more of the version than that it was prepared."""
        return self.started is not None or bool(self.damaged or self.differing)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Evidence:
        """What a newer server knows beside is left out."""
        known = {one.name for one in fields(cls)}
        told = {key: value for key, value in body.items() if key in known}
        told["volumes"] = tuple(
            VolumeCheck(**{**one, "state": VolumeState(one["state"])})
            for one in told.get("volumes", ())
        )
        told["checks"] = tuple(ServiceCheck(**one) for one in told.get("checks", ()))
        told["differing"] = tuple(str(one) for one in told.get("differing", ()))
        told["failed_units"] = tuple(str(one) for one in told.get("failed_units", ()))
        if told.get("failed_before") is not None:
            told["failed_before"] = tuple(str(one) for one in told["failed_before"])
        for key in ("ports", "silent"):
            told[key] = tuple(int(one) for one in told.get(key, ()))
        return cls(**told)


def _tried(tried: bool, failed: bool) -> Tried:
    if not tried:
        return Tried.NOT
    return Tried.FAILED if failed else Tried.PASSED


def grade(evidence: Evidence | None, prepared: bool) -> Grade:
    """The last step that passed before the first that failed."""
    reached = Grade.PREPARED if prepared or evidence is not None else Grade.NONE
    for step, came in evidence.steps().items() if evidence else ():
        if came is Tried.FAILED:
            break
        if came is Tried.PASSED:
            reached = step
    return reached


def standing(evidence: Evidence | None) -> Standing:
    """Only what did not start is refuted. What is silent, or fails a check of one's own, may lack
    other machines; and a file system that is damaged in a copy that starts is damaged in the
    original most likely, for who knows how long: there older copies would cost data for nothing."""
    if evidence is None:
        return Standing.UNPROVEN
    if evidence.started is False or (evidence.damaged and not evidence.started):
        return Standing.REFUTED
    if evidence.started and evidence.failed_step() is None:
        return Standing.PROVEN
    return Standing.UNPROVEN


def worth_keeping(
    sealed: Collection[str], usable: Collection[str], proofs: Mapping[str, Evidence]
) -> set[str]:
    """Of which versions the prepared images stay: the newest, the newest that may be started, and
    the newest that is proven. ``usable`` are those of ``sealed`` that need not be made anew."""
    proven = (one for one in usable if standing(proofs.get(one)) is Standing.PROVEN)
    chosen = (max(sealed, default=""), max(usable, default=""), max(proven, default=""))
    return {one for one in chosen if one}


class ProofRecord:
    """The record of one primary. Thread-safe."""

    def __init__(self, paths: layout.PrimaryPaths) -> None:
        self._path = paths.proofs
        self._versions = paths.versions

    def all(self) -> dict[str, Evidence]:
        """By stamp; a version that was never rehearsed is missing."""
        return {stamp: Evidence.from_json(one) for stamp, one in self._read().items()}

    def of(self, stamp: str) -> Evidence | None:
        return self.all().get(stamp)

    def keep(self, stamp: str, evidence: Evidence) -> None:
        """In place of what was known of this version, durably; versions that are gone go here."""
        with _writing:
            known = {**self._read(), stamp: evidence.to_json()}
            there = {
                one: told
                for one, told in known.items()
                if (self._versions / one / layout.MANIFEST).exists()
            }
            replace_json(self._path, {"format": FORMAT, "versions": there})

    def _read(self) -> dict[str, Any]:
        try:
            body = read_json(self._path)
            if body.get("format") == FORMAT:
                for one in body["versions"].values():
                    Evidence.from_json(one)
                return dict(body["versions"])
        except FileNotFoundError:
            return {}
        except (NotfallError, KeyError, TypeError, ValueError, AttributeError):
            pass
        log.error("%s cannot be read; what it knew is found out by the next rehearsals", self._path)
        return {}
