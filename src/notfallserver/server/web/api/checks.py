"""Own checks of a server's services: what must be so when its copy runs in a rehearsal."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from notfallserver.server.cycle.rehearsal.checks import MOST, Kind, OwnCheck
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator, Person

router = APIRouter(tags=["checks"])


class CheckRequest(BaseModel):
    """``kind``: tcp with ``port``; http with ``url``, the ``status`` it must answer and a text that
    it ``contains``; script with the name of a program in the server's directory ``checks``. It has
    to pass ``within_s`` seconds after the copy answered."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    port: int = Field(default=0, ge=0, le=65535)
    url: str = Field(default="", max_length=500)
    status: int = Field(default=200, ge=100, le=599)
    contains: str = Field(default="", max_length=500)
    script: str = Field(default="", max_length=80)
    within_s: int = Field(default=60, ge=1, le=600)


class ChecksRequest(BaseModel):
    """All checks; what is left out is not checked any more."""

    model_config = ConfigDict(extra="forbid")

    checks: list[CheckRequest] = Field(max_length=MOST)


class CheckAnswer(CheckRequest):
    """``name`` is what people know it by."""

    name: str


class ChecksAnswer(BaseModel):
    """``scripts`` can be named."""

    checks: list[CheckAnswer]
    scripts: list[str]


@router.get("/primaries/{name}/checks")
def show_checks(request: Request, name: Name, who: Person) -> ChecksAnswer:
    house = house_of(request)
    known = house.conductor.checks.of(house.catalogue.primaries.find(name))
    return ChecksAnswer(
        checks=[CheckAnswer(name=one.name, **asdict(one)) for one in known],
        scripts=house.conductor.checks.scripts(),
    )


@router.post("/primaries/{name}/checks")
def set_checks(
    request: Request, name: Name, body: ChecksRequest, who: Administrator
) -> ChecksAnswer:
    """They are made in the next rehearsal."""
    house = house_of(request)
    wishes = [OwnCheck(**one.model_dump()) for one in body.checks]
    house.conductor.checks.set(house.catalogue.primaries.find(name), wishes, who)
    return show_checks(request, name, who)
