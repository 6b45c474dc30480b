"""What the API answers: typed, and apart from the rows, so that both may change on their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from notfallserver.server.cycle.actions import RecoveryPlan, VersionInfo
from notfallserver.server.cycle.agentless import is_agentless
from notfallserver.server.cycle.choice import Offer, Role
from notfallserver.server.cycle.handover.plan import LEFT
from notfallserver.server.cycle.normal.deep import days_of, read_deep
from notfallserver.server.cycle.normal.forecast import Forecast
from notfallserver.server.cycle.power import is_off
from notfallserver.server.cycle.rehearsals import NOTE
from notfallserver.server.cycle.trial import TRIAL
from notfallserver.server.fence.device import read_device
from notfallserver.server.pool.layout import stamp_time
from notfallserver.server.pool.proof import Evidence, Grade, Standing
from notfallserver.server.records.jobs import Job
from notfallserver.server.records.journal import Entry
from notfallserver.server.records.primaries import Primary
from notfallserver.server.records.rehearsals import Rehearsal
from notfallserver.server.records.targets import Target
from notfallserver.server.web.alarm_answers import StandingAlarm
from notfallserver.server.web.evidence_answers import EvidenceAnswer
from notfallserver.server.web.line_answers import (
    ForecastAnswer,
    LimitsAnswer,
    LineAnswer,
    limits_of,
    line_of,
)
from notfallserver.wire.errors import NotfallError


class ErrorAnswer(BaseModel):
    """Every error: what is wrong, what to do next, whether trying again can help."""

    code: str
    cause: str
    remedy: str
    retry: bool


class ProgressAnswer(BaseModel):
    """Bytes, bytes a second, seconds; a total of 0 is unknown."""

    phase: str
    done: int
    total: int
    rate: float
    seconds_left: float | None


class JobAnswer(BaseModel):
    """A job; ``primary`` is a UUID, ``name`` the primary's name."""

    id: str
    kind: str
    primary: str | None
    name: str
    state: str
    who: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: ProgressAnswer
    result: dict[str, Any]
    error: ErrorAnswer | None
    cancel_requested: bool

    @classmethod
    def of(cls, job: Job, name: str = "") -> JobAnswer:
        return cls.model_validate({**asdict(job), "name": name})


class RecoveryAnswer(BaseModel):
    """How close the target is behind the stand-in; bytes, seconds, bytes a second."""

    target: str
    ready: bool
    rounds: int
    last_delta: int
    rate: float
    predicted_downtime_s: float | None

    @classmethod
    def of(cls, notes: dict[str, Any]) -> RecoveryAnswer:
        closeness = notes.get("closeness", {})
        return cls(
            target=notes["target"],
            ready=closeness.get("ready", False),
            rounds=closeness.get("round", 0),
            last_delta=closeness.get("written", 0),
            rate=closeness.get("rate", 0),
            predicted_downtime_s=closeness.get("predicted_downtime_s"),
        )


class DeepAnswer(BaseModel):
    """The last run that read everything; ``unexplained`` blocks had changed without being seen.

    ``days`` lie between deep runs, 0 is never; ``words`` says what was found, ``found_at`` is the
    time of the version ``found_in``.
    """

    days: int
    at: datetime | None
    found_in: str
    found_at: datetime | None
    unexplained: int
    words: str

    @classmethod
    def of(cls, notes: Mapping[str, Any]) -> DeepAnswer:
        last = read_deep(notes)
        return cls(
            days=days_of(notes),
            at=datetime.fromisoformat(last.at) if last else None,
            found_in=last.found_in if last else "",
            found_at=version_time(last.found_in) if last else None,
            unexplained=last.unexplained if last else 0,
            words=last.in_words() if last and last.unexplained else "",
        )


class RehearsedAnswer(BaseModel):
    """The last rehearsal that showed whether the copy starts; ``outcome`` is passed or failed."""

    id: str
    at: datetime
    outcome: str

    @classmethod
    def of(cls, notes: Mapping[str, Any]) -> RehearsedAnswer | None:
        return cls.model_validate(notes[NOTE]) if NOTE in notes else None


class RehearsalAnswer(BaseModel):
    """``outcome``: passed, failed or broken-off. ``answered_s`` seconds after its start the last of
    ``ports`` answered. ``ended_at`` is empty while it runs."""

    id: str
    version: str
    version_at: datetime | None
    who: str
    began_at: datetime
    ended_at: datetime | None
    outcome: str
    answered_s: float | None
    ports: list[int]
    silent: list[int]
    error: ErrorAnswer | None
    picture: bool
    evidence: EvidenceAnswer | None

    @classmethod
    def of(cls, one: Rehearsal) -> RehearsalAnswer:
        kept = Evidence.from_json(one.evidence) if one.evidence else None
        told = {"version_at": version_time(one.version), "evidence": EvidenceAnswer.of(kept)}
        return cls.model_validate({**asdict(one), **told})


class TrialAnswer(BaseModel):
    """The time after a switch-back in which one click leads back to the stand-in, whose last
    version is ``version``."""

    since: datetime
    until: datetime
    version: str

    @classmethod
    def of(cls, notes: Mapping[str, Any]) -> TrialAnswer | None:
        return cls.model_validate(notes[TRIAL]) if TRIAL in notes else None


class PrimaryAnswer(BaseModel):
    """A primary; times in UTC. ``standin_off``: its stand-in should work, but was switched off, or
    was not switched on again after a power cut. ``shut_down``: it was handed over and is off.
    ``fence``: what can switch the original off from afar; empty: nothing. ``boots_by``: bios, uefi
    or both, which a machine may have to which it is brought back; empty: not known yet.
    ``agentless``: its copies are imported."""

    uuid: str
    name: str
    state: str
    schedule_minutes: int
    capture_minutes: int
    enrolled_at: datetime
    last_seen: datetime | None
    agent_role: str
    agent_version: str
    agentless: bool = False
    hostname: str
    system: str
    addresses: list[str]
    newest_version: str
    newest_version_at: datetime | None
    standin_off: bool
    boots_by: list[str]
    fence: str
    damaged_versions: int
    alarm: StandingAlarm | None
    deep: DeepAnswer
    rehearsed: RehearsedAnswer | None
    recovery: RecoveryAnswer | None
    trial: TrialAnswer | None
    shut_down: bool
    limits: LimitsAnswer
    line: LineAnswer | None
    forecast: ForecastAnswer | None
    jobs: list[JobAnswer]

    @classmethod
    def of(
        cls, primary: Primary, jobs: Sequence[Job], forecast: Forecast | None = None
    ) -> PrimaryAnswer:
        """The forecast needs the pool, so only the view of one primary has it."""
        machine = primary.machine
        return cls(
            uuid=primary.uuid,
            name=primary.name,
            state=primary.state,
            schedule_minutes=primary.schedule_minutes,
            capture_minutes=primary.capture_minutes,
            enrolled_at=primary.enrolled_at,
            last_seen=primary.last_seen,
            agent_role=primary.agent_role,
            agent_version=primary.agent_version,
            agentless=is_agentless(primary),
            hostname=machine.hostname if machine else "",
            system=machine.system if machine else "",
            addresses=machine.addresses() if machine else [],
            newest_version=primary.newest_version,
            newest_version_at=version_time(primary.newest_version),
            standin_off=is_off(primary),
            boots_by=primary.notes.get("boots_by", []),
            fence=device.place if (device := read_device(primary.notes)) else "",
            damaged_versions=primary.notes.get("damaged", 0),
            alarm=StandingAlarm.of(primary.notes),
            deep=DeepAnswer.of(primary.notes),
            rehearsed=RehearsedAnswer.of(primary.notes),
            recovery=(
                RecoveryAnswer.of(primary.notes["recovery"])
                if "recovery" in primary.notes
                else None
            ),
            trial=TrialAnswer.of(primary.notes),
            shut_down=LEFT in primary.notes,
            limits=limits_of(primary),
            line=line_of(primary),
            forecast=ForecastAnswer.of(forecast) if forecast else None,
            jobs=[JobAnswer.of(job, primary.name) for job in jobs if job.primary == primary.uuid],
        )


class InviteAnswer(BaseModel):
    """``line`` is to be pasted as root on the primary; ``windows_line`` at an administrator's
    prompt of Windows, empty where this server does not have the agent for it."""

    name: str
    expires_at: datetime
    line: str
    windows_line: str
    urls: list[str]


class DamageAnswer(BaseModel):
    """``blocks`` of 64 KiB are damaged; ``lost``: no copy of them is left. ``checked_at``: when the
    version was last read as a whole."""

    checked_at: datetime | None
    blocks: int
    indexes: int
    lost: bool


class ApplicationAnswer(BaseModel):
    """``error`` is empty when it stood still for the version, ``held_ms`` how long."""

    name: str
    held_ms: float
    error: str


class VersionAnswer(BaseModel):
    """``proof``: passed, failed, or empty where nothing was found out yet; ``grade`` says how
    much is proved, ``evidence`` by what, ``failed_step`` what failed first; ``suspect``: an alarm
    marks it."""

    stamp: str
    taken_at: datetime
    source: str
    consistency: str
    size: int
    used: int
    disks: int
    newest: bool
    prepared: bool
    proof: str
    grade: Grade
    failed_step: Grade | None
    evidence: EvidenceAnswer | None
    damage: DamageAnswer
    applications: list[ApplicationAnswer]
    suspect: bool

    @classmethod
    def of(cls, version: VersionInfo) -> VersionAnswer:
        told = {"evidence": EvidenceAnswer.of(version.evidence)}
        return cls.model_validate({**asdict(version), **told})


class OfferAnswer(BaseModel):
    """A copy that a stand-in can be started from: ``role`` is clean (the newest that no alarm
    marks), proven, newest, or original (the newest of the server itself, where the newest is of a
    stand-in). ``behind_s``: seconds by which
    it is older than the newest; ``taken``: it is started where nobody chooses."""

    role: Role
    stamp: str
    taken_at: datetime
    kind: str
    behind_s: float
    prepared: bool
    grade: Grade
    standing: Standing
    failed_step: Grade | None
    proved_at: datetime | None
    taken: bool
    suspect: bool

    @classmethod
    def of(cls, offer: Offer) -> OfferAnswer:
        return cls.model_validate({**asdict(offer), "proved_at": offer.proved_at or None})


class EntryAnswer(BaseModel):
    id: int
    at: datetime
    primary: str | None
    name: str
    event: str
    who: str
    why: str
    from_state: str
    to_state: str
    details: dict[str, Any]

    @classmethod
    def of(cls, entry: Entry, name: str) -> EntryAnswer:
        return cls.model_validate({**asdict(entry), "name": name})


class TargetDisk(BaseModel):
    name: str
    size: int
    serial: str
    model: str
    holds: list[str]


class TargetAnswer(BaseModel):
    """A target; its code is only on its own screen."""

    id: str
    hostname: str
    vendor: str
    product: str
    firmware: str
    addresses: list[str]
    disks: list[TargetDisk]
    seen: datetime
    state: str
    recovery: str
    report: dict[str, Any]

    @classmethod
    def of(cls, target: Target) -> TargetAnswer:
        machine = target.machine
        disks = [
            TargetDisk(
                name=disk.name,
                size=disk.size,
                serial=disk.serial,
                model=disk.model,
                holds=[
                    part.label or part.filesystem or part.kind or "unknown"
                    for part in disk.partitions
                ],
            )
            for disk in machine.disks
        ]
        return cls(
            id=target.id,
            hostname=machine.hostname,
            vendor=machine.vendor,
            product=machine.product,
            firmware=machine.firmware,
            addresses=machine.addresses(),
            disks=disks,
            seen=target.seen,
            state=target.state,
            recovery=target.recovery,
            report=target.report,
        )


class MoveAnswer(BaseModel):
    old_name: str
    old_size: int
    new_name: str
    new_size: int
    new_serial: str
    new_model: str
    overwrites: list[str]
    changes: list[str]


class PlanAnswer(BaseModel):
    """What a recovery would do; ``digest`` confirms just this plan."""

    primary: str
    target: str
    moves: list[MoveAnswer]
    untouched: list[str]
    warnings: list[str]
    grow: bool
    can_grow: bool
    digest: str

    @classmethod
    def of(cls, plan: RecoveryPlan) -> PlanAnswer:
        return cls.model_validate({**asdict(plan), "digest": plan.digest})


class PoolAnswer(BaseModel):
    path: str
    filesystem: str
    reflink: bool
    protected: bool
    size: int
    free: int


class StatusAnswer(BaseModel):
    """The server as a whole; ``states`` counts primaries by state."""

    version: str
    urls: list[str]
    fingerprint: str
    started_at: datetime
    pool: PoolAnswer
    states: dict[str, int]
    running_jobs: int
    damaged_versions: int


def version_time(stamp: str) -> datetime | None:
    """When a version was taken; None for none."""
    try:
        return stamp_time(stamp) if stamp else None
    except NotfallError:
        return None
