"""The set-up of this server in steps."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict

from notfallserver.server.records.catalogue import Catalogue
from notfallserver.server.records.journal import Wanted
from notfallserver.server.web.language import speech
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator
from notfallserver.server.web.words.setting_up import Progress, Step, steps
from notfallserver.server.web.words.situation import Light

router = APIRouter(tags=["set-up"])
SET_UP = "set-up"
ENTRIES = 50
"""So many changes of passwords are looked through."""


class Stand(StrEnum):
    """How far the set-up is; ``new``: nobody has seen it yet."""

    NEW = "new"
    BEGUN = "begun"
    ASIDE = "aside"
    FINISHED = "finished"


class LinesAnswer(BaseModel):
    """Lines to copy: file (empty: a shell) and content."""

    title: str
    parts: list[tuple[str, str]]


class StepAnswer(BaseModel):
    """``light`` is good, busy, warn or bad."""

    key: str
    light: Light
    title: str
    words: list[str]
    remedy: list[str]
    lines: list[LinesAnswer]


class SetUpAnswer(BaseModel):
    state: Stand
    steps: list[StepAnswer]


class SetUpRequest(BaseModel):
    """``begun`` takes it up again."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["begun", "aside", "finished"]


@router.get("/setup")
def show_set_up(request: Request, who: Administrator) -> SetUpAnswer:
    """All steps; takes a second if a gateway or witness is silent."""
    english = speech("en")
    return SetUpAnswer(
        state=stand_of(house_of(request).catalogue),
        steps=[
            StepAnswer(
                key=one.key,
                light=one.light,
                title=one.title,
                words=[english.words(words) for words in one.words],
                remedy=[english.words(words) for words in one.remedy],
                lines=[LinesAnswer(title=two.title, parts=list(two.parts)) for two in one.lines],
            )
            for one in steps_of(request, who)
        ],
    )


@router.post("/setup", status_code=204)
def change_set_up(request: Request, body: SetUpRequest, who: Administrator) -> Response:
    keep_stand(house_of(request).catalogue, Stand(body.state), who)
    return Response(status_code=204)


def stand_of(catalogue: Catalogue) -> Stand:
    return Stand(catalogue.notes.read(SET_UP).get("state", Stand.NEW))


def keep_stand(catalogue: Catalogue, stand: Stand, who: str) -> None:
    if stand_of(catalogue) is not stand:
        catalogue.notes.keep(SET_UP, {"state": stand}, f"set-up-{stand}", who)


PASSWORDS = Wanted(events=("password-set", "person-added"))


def steps_of(request: Request, who: str) -> tuple[Step, ...]:
    """The steps as they are now, for the person who looks."""
    house = house_of(request)
    catalogue = house.catalogue
    rows = catalogue.primaries.all()
    ready = {one.uuid for one in rows if is_prepared(request, one.uuid)}
    progress = Progress(
        own_password=has_own_password(catalogue, who),
        building=bool(catalogue.jobs.unfinished(kind="rescue_build")),
        protected=[one.name for one in rows if one.uuid in ready],
        coming=[one.name for one in rows if one.uuid not in ready],
    )
    return steps(house.conductor.surroundings(), progress)


def is_prepared(request: Request, primary: str) -> bool:
    """Whether the newest copy of a primary, or an older one, can start."""
    return any(one.prepared for one in house_of(request).conductor.versions(primary))


def has_own_password(catalogue: Catalogue, who: str) -> bool:
    """The command line's ``root`` makes passwords up; whoever chooses one is somebody else."""
    for entry in catalogue.journal.entries(limit=ENTRIES, wanted=PASSWORDS):
        if entry.details.get("name") == who:
            return entry.who != "root"
    return True  # somebody who was added, or whose password was set long ago
