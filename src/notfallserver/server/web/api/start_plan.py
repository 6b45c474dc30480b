"""The start plan: which servers start in which order when several are down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from notfallserver.server.cycle.outage.guard import Verdict
from notfallserver.server.cycle.plans.capacity import Capacity
from notfallserver.server.cycle.plans.order import Wish
from notfallserver.server.cycle.plans.start_plan import Entry
from notfallserver.server.records.start_place import Begins, IfFails
from notfallserver.server.web.answers import JobAnswer
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator, Operator, Person
from notfallserver.server.web.start_answers import (
    CandidateAnswer,
    CapacityAnswer,
    CheckAnswer,
    EntryAnswer,
    RunAnswer,
    StandAnswer,
    StartPlanAnswer,
)

router = APIRouter(tags=["start plan"])
OneName = Annotated[str, Field(min_length=1, max_length=80)]


class OrderRequest(BaseModel):
    """Names, first to last; those of one group start together. Others follow as they were."""

    model_config = ConfigDict(extra="forbid")

    groups: list[Annotated[list[OneName], Field(min_length=1, max_length=1000)]] = Field(
        min_length=1, max_length=1000
    )


class PlaceRequest(BaseModel):
    """``begins``: together with the one before, a delay after it was started, or when it works.

    ``delay_s`` seconds after that; that it works is waited for ``limit_s`` seconds at most.
    ``memory_mib`` limits its stand-in's memory, 0: as usual. ``place`` counts from 1. What is left
    out stays as it was.
    """

    model_config = ConfigDict(extra="forbid")

    place: int | None = None
    begins: Begins | None = None
    delay_s: int | None = None
    limit_s: int | None = None
    if_fails: IfFails | None = None
    memory_mib: int | None = None


class StartRequest(BaseModel):
    """``primaries``: names of those to start; left out: all that are down."""

    model_config = ConfigDict(extra="forbid")

    primaries: list[OneName] | None = Field(default=None, max_length=1000)


@router.get("/start-plan")
def show_plan(request: Request, who: Person) -> StartPlanAnswer:
    """The plan, what fits together, and the last run."""
    house = house_of(request)
    plans = house.conductor.start_plans
    capacity = plans.capacity()
    needs = {one.primary: one for one in (*capacity.fits, *capacity.rest)}
    fits = {one.primary for one in capacity.fits}
    entries = plans.entries()
    down = set(plans.down())
    return StartPlanAnswer(
        entries=[
            EntryAnswer.of(one, needs.get(one.row.uuid), one.row.uuid in fits) for one in entries
        ],
        capacity=CapacityAnswer.of(capacity),
        down=[one.row.name for one in entries if one.row.uuid in down],
        run=run_of(request),
    )


@router.post("/start-plan/order")
def set_order(request: Request, body: OrderRequest, who: Administrator) -> StartPlanAnswer:
    house = house_of(request)
    find = house.catalogue.primaries.find
    groups = [[find(name).uuid for name in group] for group in body.groups]
    house.conductor.start_plans.order(groups, who)
    return show_plan(request, who)


@router.post("/start-plan/places/{name}")
def set_place(
    request: Request, name: Name, body: PlaceRequest, who: Administrator
) -> StartPlanAnswer:
    """Change when one server starts, or what its stand-in gets."""
    house = house_of(request)
    uuid = house.catalogue.primaries.find(name).uuid
    house.conductor.start_plans.change(uuid, Wish(**body.model_dump()), who)
    return show_plan(request, who)


@router.post("/start-plan/check")
def check_plan(request: Request, who: Operator) -> CheckAnswer:
    """Asks the guard about all that are down, which takes a few seconds; changes nothing."""
    checked = look(request)
    return CheckAnswer(
        candidates=[
            CandidateAnswer.of(one, one.row.uuid in checked.fits, verdict)
            for one, verdict in checked.candidates
        ],
        capacity=CapacityAnswer.of(checked.capacity),
    )


@router.post("/start-plan/start", status_code=202)
def start_plan(request: Request, body: StartRequest, who: Operator) -> JobAnswer:
    """Start them in the plan's order; the guard is asked about each."""
    house = house_of(request)
    find = house.catalogue.primaries.find
    chosen = None if body.primaries is None else [find(one).uuid for one in body.primaries]
    return JobAnswer.of(house.conductor.start_plans.start(chosen, who))


@dataclass(frozen=True)
class Checked:
    """All that are down, in the plan's order; ``capacity`` of those that may start."""

    candidates: tuple[tuple[Entry, Verdict], ...]
    capacity: Capacity

    @property
    def fits(self) -> set[str]:
        return {one.primary for one in self.capacity.fits}


def look(request: Request) -> Checked:
    """Asks the guard now."""
    plans = house_of(request).conductor.start_plans
    verdicts = plans.examine(plans.down())
    found = tuple(
        (one, verdicts[one.row.uuid]) for one in plans.entries() if one.row.uuid in verdicts
    )
    allowed = [uuid for uuid, verdict in verdicts.items() if verdict.allowed]
    return Checked(found, plans.capacity(allowed))


def run_of(request: Request) -> RunAnswer | None:
    """The run under way, or the last one."""
    house = house_of(request)
    plans = house.conductor.start_plans
    job = plans.last_run()
    if job is None:
        return None
    names = house.catalogue.primaries.names()
    return RunAnswer(
        job=JobAnswer.of(job),
        stands=[
            StandAnswer.of(uuid, names.get(uuid, ""), stand)
            for uuid, stand in plans.stands(job).items()
        ],
    )
