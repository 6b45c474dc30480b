"""Primaries: list, one, invite, schedule, remove; their versions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from notfallserver.server.cycle.agentless import refuse_agentless
from notfallserver.server.cycle.normal.limits import Wish
from notfallserver.server.web.answers import InviteAnswer, PrimaryAnswer, VersionAnswer
from notfallserver.server.web.enrol import invitation_line, windows_line
from notfallserver.server.web.language import speech
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator, Person
from notfallserver.server.web.words.readiness import told
from notfallserver.wire.errors import NotfallError

router = APIRouter(tags=["primaries"])

Name = Annotated[str, Path(max_length=80, description="A primary's name or UUID")]
LimitText = Annotated[str | None, Field(max_length=40)]
WindowText = Annotated[str, Field(max_length=100)]
Minutes = Annotated[int | None, Field(ge=0, le=525600)]


class InviteRequest(BaseModel):
    """``again`` installs a known primary's agent anew; ``url`` is how the primary reaches us."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=63)
    again: bool = False
    url: str = Field(default="", max_length=300)


class ScheduleRequest(BaseModel):
    """Minutes between runs, days between deep ones; 0 only on request; left out: as it was."""

    model_config = ConfigDict(extra="forbid")

    schedule_minutes: Minutes = None
    capture_minutes: Minutes = None
    deep_days: int | None = Field(default=None, ge=0, le=365)


class LimitsRequest(BaseModel):
    """As written on the command line: ``10Mbit``, ``2MB``, ``none``; left out: as it was.

    ``windows`` replaces all windows; ``clear`` takes all limits away before the rest is applied.
    """

    model_config = ConfigDict(extra="forbid")

    rate: LimitText = None
    windows: Annotated[list[WindowText] | None, Field(max_length=64)] = None
    read_rate: LimitText = None
    pause_load: LimitText = None
    pause_pressure: LimitText = None
    pause_minutes: Annotated[int | None, Field(ge=1, le=1440)] = None
    clear: bool = False

    def window_texts(self) -> tuple[str, ...] | None:
        return None if self.windows is None else tuple(self.windows)


class FindingAnswer(BaseModel):
    """``key`` stays the same in all versions, ``severity`` is blocker or warning."""

    key: str
    severity: str
    words: str
    remedy: str


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
    return primary_answer(request, name)


def primary_answer(request: Request, name: str) -> PrimaryAnswer:
    """One primary with its forecast."""
    house = house_of(request)
    primary = house.catalogue.primaries.find(name)
    jobs = house.catalogue.jobs.unfinished(primary.uuid)
    return PrimaryAnswer.of(primary, jobs, house.conductor.forecast(primary.uuid))


@router.get("/primaries/{name}/readiness")
def readiness(request: Request, name: Name, who: Person) -> list[FindingAnswer]:
    """What stands in the way of replacing this primary, worst first."""
    house = house_of(request)
    found = house.conductor.readiness(house.catalogue.primaries.find(name).uuid)
    english = speech("en")
    return [
        FindingAnswer(
            key=one.key,
            severity=one.severity,
            words=english.words(one.words),
            remedy=english.words(one.remedy),
        )
        for one in told(found).list
    ]


@router.post("/invites", status_code=201)
def invite(request: Request, body: InviteRequest, who: Administrator) -> InviteAnswer:
    house = house_of(request)
    url = body.url or house.urls[0]
    invitation_line(house, "", url)  # a wrong address is refused before anything is written
    made = house.catalogue.invites.invite(body.name, who, body.again)
    return InviteAnswer(
        name=made.name,
        expires_at=made.expires_at,
        line=invitation_line(house, made.token, url),
        windows_line=windows_line(house, made.token, url),
        urls=list(house.urls),
    )


@router.post("/primaries/{name}/schedule")
def set_schedule(
    request: Request, name: Name, body: ScheduleRequest, who: Administrator
) -> PrimaryAnswer:
    primaries = house_of(request).catalogue.primaries
    row = primaries.find(name)
    if body.schedule_minutes:
        refuse_agentless(row)
    uuid = row.uuid
    primaries.set_schedule(uuid, body.schedule_minutes, body.capture_minutes, who)
    if body.deep_days is not None:
        primaries.note(uuid, deep_days=body.deep_days)
        house_of(request).catalogue.journal.write(
            uuid, "schedule-changed", who, details={"deep_days": body.deep_days}
        )
    return primary_answer(request, uuid)


@router.post("/primaries/{name}/limits")
def set_limits(
    request: Request, name: Name, body: LimitsRequest, who: Administrator
) -> PrimaryAnswer:
    """Limits for the replication; they act on a run under way within seconds."""
    house = house_of(request)
    primary = house.catalogue.primaries.find(name)
    wish = Wish(**{**body.model_dump(exclude={"clear"}), "windows": body.window_texts()})
    house.conductor.set_limits(primary.uuid, wish, body.clear, who)
    return primary_answer(request, primary.uuid)


@router.post("/primaries/{name}/remove", status_code=204)
def remove_primary(
    request: Request, name: Name, body: RemoveRequest, who: Administrator
) -> Response:
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
