"""Rehearsals: begin, end, what came of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict

from notfallserver.server.web.answers import JobAnswer, RehearsalAnswer
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Operator, Person

router = APIRouter(tags=["rehearsals"])

Id = Annotated[str, Path(max_length=40)]


class RehearseRequest(BaseModel):
    """``keep_running``: the copy works on until somebody ends it, or its time is over."""

    model_config = ConfigDict(extra="forbid")

    keep_running: bool = False


@router.post("/primaries/{name}/rehearse", status_code=202)
def rehearse(request: Request, name: Name, body: RehearseRequest, who: Operator) -> JobAnswer:
    """Start the copy in a network without a way out, while the original works on."""
    house = house_of(request)
    primary = house.catalogue.primaries.find(name)
    job = house.conductor.rehearse(primary.uuid, who, body.keep_running)
    return JobAnswer.of(job, primary.name)


@router.post("/primaries/{name}/rehearse/end", status_code=202)
def end_rehearsal(request: Request, name: Name, who: Operator) -> JobAnswer:
    """Put the copy away; what was found out stays."""
    house = house_of(request)
    primary = house.catalogue.primaries.find(name)
    return JobAnswer.of(house.conductor.end_rehearsal(primary.uuid, who), primary.name)


@router.get("/primaries/{name}/rehearsals")
def list_rehearsals(request: Request, name: Name, who: Person) -> list[RehearsalAnswer]:
    """Newest first."""
    catalogue = house_of(request).catalogue
    found = catalogue.rehearsals.of(catalogue.primaries.find(name).uuid)
    return [RehearsalAnswer.of(one) for one in found]


@router.get("/primaries/{name}/rehearsals/{rehearsal}/picture", response_class=Response)
def rehearsal_picture(request: Request, name: Name, rehearsal: Id, who: Person) -> Response:
    """What its screen showed (PNG)."""
    house = house_of(request)
    uuid = house.catalogue.primaries.find(name).uuid
    picture = house.conductor.rehearsal_picture(uuid, rehearsal)
    return Response(picture, media_type="image/png")
