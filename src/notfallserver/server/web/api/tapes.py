"""Versions on tapes, in archive files and through pipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from notfallserver.server.cycle.tape_restore import Wish as RestoreWish
from notfallserver.server.cycle.tapes import MEDIA, WAITING, Wish
from notfallserver.server.media.age import new_key
from notfallserver.server.media.restore import Choice
from notfallserver.server.records.people import Role
from notfallserver.server.web.answers import JobAnswer
from notfallserver.server.web.api.actions import absolute_directory
from notfallserver.server.web.api.jobs import JobId
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator, Operator, require_role

router = APIRouter(tags=["tapes"])

PathText = Annotated[str, Field(max_length=4096)]
Recipient = Annotated[str, Field(max_length=100)]
Label = Annotated[str, Field(max_length=60)]
Overwrite = Annotated[str, Field(max_length=80)]


class ChosenVersion(BaseModel):
    """``primary`` by name or UUID; ``version``: left out, its newest sound one."""

    model_config = ConfigDict(extra="forbid")

    primary: str = Field(min_length=1, max_length=80)
    version: str = Field(default="", max_length=64)


class WriteRequest(BaseModel):
    """``to`` on the emergency server: a tape drive that does not rewind by itself, a directory, a
    new file or a named pipe. ``volume_mib``: size of a medium, 0: as much as it takes.
    ``recipients``: public keys of age. ``overwrite``: what may be given up on the first medium: its
    label or set, ``foreign`` or ``unreadable``. ``verify``: read each medium back."""

    model_config = ConfigDict(extra="forbid")

    to: PathText
    versions: list[ChosenVersion] = Field(min_length=1, max_length=1000)
    label: Label = ""
    volume_mib: int = Field(default=0, ge=0, le=1 << 30)
    recipients: list[Recipient] = Field(default=[], max_length=20)
    overwrite: Overwrite = ""
    verify: bool = True


class RestoreRequest(BaseModel):
    """``source`` as ``to`` of writing; what is left out of ``primary``, ``version`` and ``disk``
    means all. ``to``: a directory; left out, into the pool. ``identity``: a file on the emergency
    server with the secret key. ``partial``: wait for no further medium."""

    model_config = ConfigDict(extra="forbid")

    source: PathText
    primary: str = Field(default="", max_length=80)
    version: str = Field(default="", max_length=64)
    disk: int = Field(default=-1, ge=-1, lt=64)
    to: PathText = ""
    identity: PathText = ""
    partial: bool = False


class LabelRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    device: PathText
    label: Label
    overwrite: Overwrite = ""


class LookRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    source: PathText
    identity: PathText = ""


class GoOnRequest(BaseModel):
    """The medium is there: ``place``, where it is elsewhere now; ``overwrite`` as in writing;
    ``give_up``: the rest is not to be had."""

    model_config = ConfigDict(extra="forbid")

    place: PathText = ""
    overwrite: Overwrite = ""
    give_up: bool = False


class WaitingAnswer(BaseModel):
    """``code`` and ``cause``: why; ``medium``: which one of the set is written, ``media``: which
    ones are known to hold what is missing."""

    job: JobAnswer
    medium: int
    code: str
    cause: str
    media: list[int] = []


class KeyAnswer(BaseModel):
    """``secret`` is told only here and kept nowhere."""

    secret: str
    public: str


@router.post("/tape/write", status_code=202)
def write_tape(request: Request, body: WriteRequest, who: Administrator) -> JobAnswer:
    """Write versions as archives that tar reads; asks for one medium after another."""
    house = house_of(request)
    find = house.catalogue.primaries.find
    wish = Wish(
        to=_place(body.to),
        versions=tuple((find(one.primary).uuid, one.version) for one in body.versions),
        label=body.label,
        volume=body.volume_mib << 20,
        recipients=tuple(body.recipients),
        overwrite=body.overwrite,
        verify=body.verify,
    )
    return JobAnswer.of(house.conductor.carry.tapes.begin(wish, who))


@router.post("/tape/restore", status_code=202)
def restore_tape(request: Request, body: RestoreRequest, who: Administrator) -> JobAnswer:
    """Bring versions back, from the media alone."""
    wish = RestoreWish(
        source=_place(body.source),
        choice=Choice(body.primary, body.version, body.disk),
        to=_place(body.to) if body.to else None,
        identity=_place(body.identity) if body.identity else None,
        partial=body.partial,
    )
    return JobAnswer.of(house_of(request).conductor.carry.restores.begin(wish, who))


@router.post("/tape/label", status_code=204)
def label_tape(request: Request, body: LabelRequest, who: Administrator) -> Response:
    """Give an empty tape a name."""
    tapes = house_of(request).conductor.carry.tapes
    tapes.label_tape(_place(body.device), body.label, body.overwrite)
    return Response(status_code=204)


@router.post("/tape/look")
def look_at_tape(request: Request, body: LookRequest, who: Administrator) -> list[dict[str, Any]]:
    """What a medium tells of itself; changes nothing."""
    identity = _place(body.identity) if body.identity else None
    return house_of(request).conductor.carry.restores.look(_place(body.source), identity)


@router.get("/tape/sets")
def list_sets(request: Request, who: Operator) -> list[dict[str, Any]]:
    """What was written from here, and which medium holds what."""
    return house_of(request).conductor.carry.tapes.sets()


@router.get("/tape/waiting")
def list_waiting(request: Request, who: Operator) -> list[WaitingAnswer]:
    """Jobs that wait for a medium."""
    jobs = house_of(request).catalogue.jobs.unfinished()
    return [
        WaitingAnswer(job=JobAnswer.of(one), **one.notes[WAITING])
        for one in jobs
        if one.kind in MEDIA and one.notes.get(WAITING)
    ]


@router.post("/tape/jobs/{job}/go-on", status_code=202)
def go_on(request: Request, job: JobId, body: GoOnRequest, who: Operator) -> JobAnswer:
    """The medium that a job waits for is there. Another place, and writing over something, are an
    administrator's."""
    if body.place or body.overwrite:
        require_role(request, Role.ADMINISTRATOR)
    if body.place:
        _place(body.place)
    tapes = house_of(request).conductor.carry.tapes
    return JobAnswer.of(tapes.go_on(job, body.model_dump(), who))


@router.post("/tape/key")
def make_key(who: Administrator) -> KeyAnswer:
    """A new pair of keys; it is kept nowhere here."""
    secret, public = new_key()
    return KeyAnswer(secret=secret, public=public)


def _place(text: str) -> Path:
    return absolute_directory(text)
