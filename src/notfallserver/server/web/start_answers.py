"""What the API answers about the start plan."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from notfallserver.server.cycle.outage.guard import Verdict
from notfallserver.server.cycle.plans.capacity import Capacity, Need
from notfallserver.server.cycle.plans.run import Stand
from notfallserver.server.cycle.plans.start_plan import Entry
from notfallserver.server.records.start_place import Begins, IfFails
from notfallserver.server.web.answers import ErrorAnswer, JobAnswer


class CapacityAnswer(BaseModel):
    """Names of those that fit on this server together, beside the stand-ins that exist, and of
    those that don't; bytes that are missing. ``cpus_wanted`` of ``cpus`` processors would be in
    use; ``scarce``: little of the pool (``free_disk`` bytes) is left for what they write."""

    fits: list[str]
    rest: list[str]
    missing_memory: int
    missing_disk: int
    cpus_wanted: int
    cpus: int
    free_disk: int
    scarce: bool

    @classmethod
    def of(cls, capacity: Capacity) -> CapacityAnswer:
        told = {key: value for key, value in vars(capacity).items() if isinstance(value, int)}
        return cls(
            fits=[one.name for one in capacity.fits],
            rest=[one.name for one in capacity.rest],
            scarce=capacity.scarce,
            **told,
        )


class EntryAnswer(BaseModel):
    """A server's place: those of one ``step`` start together. ``memory``: bytes that its stand-in
    gets, None where that is not known; ``fits``: None where it has a stand-in, or nothing to start.
    """

    primary: str
    name: str
    state: str
    step: int
    begins: Begins
    delay_s: int
    limit_s: int
    if_fails: IfFails
    memory_mib: int
    memory: int | None
    fits: bool | None

    @classmethod
    def of(cls, entry: Entry, need: Need | None, fits: bool) -> EntryAnswer:
        return cls(
            name=entry.row.name,
            state=entry.row.state,
            step=entry.step,
            memory=need.memory if need else None,
            fits=fits if need else None,
            **vars(entry.place),
        )


class StandAnswer(BaseModel):
    """What became of one server; ``outcome`` is waiting before its turn."""

    primary: str
    name: str
    outcome: str
    error: ErrorAnswer | None

    @classmethod
    def of(cls, primary: str, name: str, stand: Stand | None) -> StandAnswer:
        outcome = stand.outcome if stand else "waiting"
        error = stand.error if stand else None
        return cls.model_validate(
            {"primary": primary, "name": name, "outcome": outcome, "error": error}
        )


class RunAnswer(BaseModel):
    """A run of the plan, and its servers in their order."""

    job: JobAnswer
    stands: list[StandAnswer]


class StartPlanAnswer(BaseModel):
    """The plan, and which of all stand-ins fit together; ``down``: names of those that are down;
    ``run``: the run under way or the last one."""

    entries: list[EntryAnswer]
    capacity: CapacityAnswer
    down: list[str]
    run: RunAnswer | None


class CandidateAnswer(BaseModel):
    """A server that is down: what the guard says of it, and whether it fits with those before."""

    primary: str
    name: str
    fits: bool
    verdict: dict[str, Any]

    @classmethod
    def of(cls, entry: Entry, fits: bool, verdict: Verdict) -> CandidateAnswer:
        return cls(
            primary=entry.row.uuid, name=entry.row.name, fits=fits, verdict=verdict.to_json()
        )


class CheckAnswer(BaseModel):
    """All that are down, in the plan's order; ``capacity`` of those that may start."""

    candidates: list[CandidateAnswer]
    capacity: CapacityAnswer
