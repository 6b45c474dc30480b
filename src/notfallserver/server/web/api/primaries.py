"""Primaries: list, one, invite, schedule, remove; their versions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from notfallserver.server.web.answers import InviteAnswer, PrimaryAnswer, VersionAnswer
from notfallserver.server.web.enrol import invitation_line
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Person
from notfallserver.wire.errors import NotfallError

router = APIRouter(tags=["primaries"])

Name = Annotated[str, Path(max_length=80, description="A primary's name or UUID")]
Minutes = Annotated[int | None, Field(ge=0, le=525600)]


class InviteRequest(BaseModel):
    """``again`` installs a known primary's agent anew; ``url`` is how the primary reaches us."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=63)
    again: bool = False
    url: str = Field(default="", max_length=300)


class ScheduleRequest(BaseModel):
    """Minutes between runs; 0 only on request; left out: as it was."""

    model_config = ConfigDict(extra="forbid")

    schedule_minutes: Minutes = None
    capture_minutes: Minutes = None


class RemoveRequest(BaseModel):
    """``confirm`` must repeat the primary's name."""

    model_config = ConfigDict(extra="forbid")

    confirm: str = Field(max_length=80)


@router.get("/primaries")
def list_primaries(request: Request, who: Person) -> list[PrimaryAnswer]:
    catalogue = house_of(request).catalogue
    jobs = catalogue.jobs.unfinished()
    return [PrimaryAnswer.of(one, jobs) for one in catalogue.primaries.all()]


@router.get("/primaries/{name}")
def show_primary(request: Request, name: Name, who: Person) -> PrimaryAnswer:
    catalogue = house_of(request).catalogue
    primary = catalogue.primaries.find(name)
    return PrimaryAnswer.of(primary, catalogue.jobs.unfinished(primary.uuid))


@router.post("/invites", status_code=201)
def invite(request: Request, body: InviteRequest, who: Person) -> InviteAnswer:
    house = house_of(request)
    url = body.url or house.urls[0]
    invitation_line(house, "", url)  # a wrong address is refused before anything is written
    made = house.catalogue.invites.invite(body.name, who, body.again)
    return InviteAnswer(
        name=made.name,
        expires_at=made.expires_at,
        line=invitation_line(house, made.token, url),
        urls=list(house.urls),
    )


@router.post("/primaries/{name}/schedule")
def set_schedule(request: Request, name: Name, body: ScheduleRequest, who: Person) -> PrimaryAnswer:
    catalogue = house_of(request).catalogue
    primary = catalogue.primaries.find(name)
    primary = catalogue.primaries.set_schedule(
        primary.uuid, body.schedule_minutes, body.capture_minutes, who
    )
    return PrimaryAnswer.of(primary, catalogue.jobs.unfinished(primary.uuid))


@router.post("/primaries/{name}/remove", status_code=204)
def remove_primary(request: Request, name: Name, body: RemoveRequest, who: Person) -> Response:
    """Forget a primary and delete all its versions."""
    house = house_of(request)
    primary = house.catalogue.primaries.find(name)
    if body.confirm != primary.name:
        raise NotfallError(
            "not-confirmed",
            f"Removing '{primary.name}' deletes all its versions and is not confirmed.",
            "Repeat its name as confirmation.",
            status=409,
        )
    house.conductor.remove(primary.uuid, who)
    return Response(status_code=204)


@router.get("/primaries/{name}/versions")
def list_versions(request: Request, name: Name, who: Person) -> list[VersionAnswer]:
    """Newest first."""
    house = house_of(request)
    primary = house.catalogue.primaries.find(name)
    return [VersionAnswer.of(one) for one in house.conductor.versions(primary.uuid)]
