"""Planned handovers of living primaries to their stand-ins, and the trial after a switch-back."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from notfallserver.server.web.answers import ErrorAnswer, JobAnswer
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Operator
from notfallserver.wire.errors import NotfallError

router = APIRouter(tags=["handover"])


class HandOverAnswer(BaseModel):
    """Whether a handover could begin now, why not, and for how many seconds nobody could work: in
    all, and by its parts."""

    possible: bool
    obstacle: ErrorAnswer | None
    predicted_downtime_s: float
    shut_down_s: float
    last_delta_s: float
    adapt_s: float
    boot_s: float


@router.get("/primaries/{name}/hand-over")
def plan_hand_over(request: Request, name: Name, who: Operator) -> HandOverAnswer:
    """What a handover would be like; takes a few seconds, changes nothing."""
    house = house_of(request)
    row = house.catalogue.primaries.find(name)
    handovers = house.conductor.handovers
    obstacle = None
    try:
        handovers.refuse(row)
    except NotfallError as error:
        obstacle = ErrorAnswer.model_validate(error.to_json())
    seconds = handovers.foresee(row)
    return HandOverAnswer(
        possible=obstacle is None,
        obstacle=obstacle,
        predicted_downtime_s=seconds.whole,
        shut_down_s=seconds.shut_down,
        last_delta_s=seconds.last_delta,
        adapt_s=seconds.adapt,
        boot_s=seconds.boot,
    )


@router.post("/primaries/{name}/hand-over", status_code=202)
def hand_over(request: Request, name: Name, who: Operator) -> JobAnswer:
    """Shut the original down, and start its stand-in with all that was written."""
    house = house_of(request)
    row = house.catalogue.primaries.find(name)
    return JobAnswer.of(house.conductor.handovers.begin(row, who), row.name)


@router.post("/primaries/{name}/accept", status_code=204)
def accept(request: Request, name: Name, who: Operator) -> Response:
    """All is well after a switch-back: its trial period is over."""
    house = house_of(request)
    house.conductor.trials.accept(house.catalogue.primaries.find(name), who)
    return Response(status_code=204)
