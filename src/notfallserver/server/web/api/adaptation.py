"""What would be changed in a copy for other hardware."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from notfallserver.server.web.answers import JobAnswer
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Operator

router = APIRouter(tags=["adaptation"])


class AdaptationRequest(BaseModel):
    """``code``: of a target; left out, for the stand-in. ``version``: left out, the one that would
    be taken."""

    model_config = ConfigDict(extra="forbid")

    code: str | None = Field(default=None, min_length=1, max_length=40)
    version: str | None = Field(default=None, max_length=64)


@router.post("/primaries/{name}/adaptation", status_code=202)
def plan_adaptation(
    request: Request, name: Name, body: AdaptationRequest, who: Operator
) -> JobAnswer:
    """What would be changed; the job's result has it. Changes nothing, takes about a minute."""
    house = house_of(request)
    primary = house.catalogue.primaries.find(name)
    adaptations = house.conductor.adaptations
    job = adaptations.begin(primary, who, body.version or "", body.code or "")
    return JobAnswer.of(job, primary.name)
