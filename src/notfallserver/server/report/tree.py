"""The report as a tree of frozen dataclasses. As JSON it is what is kept and signed; the PDF shows
the same. Moments are UTC, lengths are seconds, sizes bytes, shares 0 to 1.

A change that a reader of :data:`FORMAT` would misunderstand gets another number; new fields don't.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cache

from pydantic import TypeAdapter

from notfallserver.server.pool.proof import Grade, Standing

FORMAT = 1


class Light(StrEnum):
    """How a primary stands at the end: protected and proven, to be looked at, not protected; or
    removed meanwhile."""

    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    GONE = "gone"


class Key(StrEnum):
    """What is not protected or not proven; ``web/words/report.py`` says what to do."""

    NO_VERSION = "no-version"
    TOO_OLD = "too-old"
    STARTS_NOT = "starts-not"
    LATE = "late"
    GAPS = "gaps"
    REHEARSAL_FAILED = "rehearsal-failed"
    NEVER_REHEARSED = "never-rehearsed"
    REHEARSAL_OLD = "rehearsal-old"
    DAMAGED = "damaged"
    DOWN = "down"
    STANDIN_WORKS = "standin-works"


@dataclass(frozen=True)
class Span:
    begin: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        return (self.end - self.begin).total_seconds()


@dataclass(frozen=True)
class Finding:
    """``seconds``: an age; ``count``: how many; ``at``: when. What doesn't apply is left out."""

    key: Key
    light: Light
    seconds: float | None = None
    count: int | None = None
    at: datetime | None = None


@dataclass(frozen=True)
class Gap:
    """From the moment of a version until the next one was there, where that took longer than the
    target; ``worst_s`` is how old the newest version got."""

    begin: datetime
    end: datetime
    worst_s: float


@dataclass(frozen=True)
class Ages:
    """How old the newest version was, at each moment from the first one on.

    ``within``: the share of the time with a schedule in which it was not older than the target;
    time without any version counts as outside. None where there was no schedule. ``gap_count`` is
    of all gaps, ``gaps`` are the longest, in order of time. ``without_s``: no version at all.
    """

    worst_s: float | None = None
    median_s: float | None = None
    at_end_s: float | None = None
    within: float | None = None
    without_s: float = 0
    gap_count: int = 0
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True)
class Proof:
    """The last rehearsal that found something out, up to the report's end; perhaps of an earlier
    month. ``grade`` says how much it proved (None where only the journal knows of it), ``failed``
    is the code of the error. ``answered_s``: seconds from its start until all answered.
    ``picture_sha256``: of what its screen showed (PNG); empty where there is no picture."""

    rehearsal: str
    at: datetime
    version: str
    passed: bool
    standing: Standing
    grade: Grade | None = None
    failed_step: Grade | None = None
    answered_s: float | None = None
    failed: str = ""
    picture_sha256: str = ""


@dataclass(frozen=True)
class Outage:
    """``planned``: handed over by a person. ``standin_at``: when the stand-in worked; ``end``: when
    the original worked again. None: not within the report's time. ``start_s``: from the order to
    start until the stand-in worked."""

    begin: datetime
    planned: bool = False
    standin_at: datetime | None = None
    end: datetime | None = None
    start_s: float | None = None


@dataclass(frozen=True)
class Incident:
    """A grave entry of the journal; ``why`` as it was written there. ``times``: so many of the same
    kind came one after another, this is the first."""

    at: datetime
    event: str
    who: str
    why: str
    times: int = 1


@dataclass(frozen=True)
class PrimaryReport:
    """``span``: the part of the month in which it was to be protected. ``protected_since``: when
    its first version was complete. ``schedule_minutes`` and ``state`` are those of the end;
    ``target_s``: the age that counts as within the plan (None: no schedule). ``kept``: versions
    there when the report was made. ``recovery_s``: the measured time until a stand-in answers, in
    its last rehearsal that passed or its last outage, ``recovery_at`` when that was."""

    uuid: str
    name: str
    light: Light
    span: Span
    hostname: str = ""
    system: str = ""
    addresses: tuple[str, ...] = ()
    removed_at: datetime | None = None
    protected_since: datetime | None = None
    schedule_minutes: int = 0
    target_s: float | None = None
    state: str = ""
    made: int = 0
    kept: int = 0
    newest: str = ""
    damaged: int = 0
    ages: Ages = field(default_factory=Ages)
    rehearsals_passed: int = 0
    rehearsals_failed: int = 0
    rehearsals_broken_off: int = 0
    proof: Proof | None = None
    recovery_s: float | None = None
    recovery_at: datetime | None = None
    outages: tuple[Outage, ...] = ()
    incidents: tuple[Incident, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def replaceable(self) -> bool:
        """A stand-in of it is known to start: a rehearsal showed it, and nothing speaks against
        it since; or it is just working."""
        if self.light in (Light.BAD, Light.GONE):
            return False
        working = any(one.key is Key.STANDIN_WORKS for one in self.findings)
        return working or (self.proof is not None and self.proof.standing is Standing.PROVEN)


@dataclass(frozen=True)
class Summary:
    """Of the primaries that are still there at the end. ``longest_s``: the longest measured time
    of those that can be replaced, None where none was measured."""

    primaries: int
    replaceable: int
    warn: int
    bad: int
    longest_s: float | None


@dataclass(frozen=True)
class Pool:
    size: int
    free: int
    full_in_s: float | None = None


@dataclass(frozen=True)
class Report:
    """``begin`` and ``end`` are the month in ``time_zone``, ``until`` is as far as the report goes:
    the end, or when it was made (``complete`` is false then). ``silent``: the emergency server was
    not running, within some hours. ``fingerprint``: SHA-256 of the CA that vouches for the
    signature."""

    month: str
    company: str
    server: str
    program: str
    fingerprint: str
    time_zone: str
    begin: datetime
    end: datetime
    until: datetime
    complete: bool
    made_at: datetime
    summary: Summary
    primaries: tuple[PrimaryReport, ...]
    incidents: tuple[Incident, ...] = ()
    silent: tuple[Span, ...] = ()
    pool: Pool | None = None
    format: int = FORMAT

    def to_json(self) -> bytes:
        """The same report gives the same bytes."""
        return _adapter().dump_json(self, indent=1) + b"\n"


def read_report(content: bytes) -> Report:
    """What :meth:`Report.to_json` wrote; another format is a ValueError."""
    found = _adapter().validate_json(content)
    if found.format != FORMAT:
        raise ValueError(f"format {found.format}")
    return found


@cache
def _adapter() -> TypeAdapter[Report]:
    return TypeAdapter(Report)
