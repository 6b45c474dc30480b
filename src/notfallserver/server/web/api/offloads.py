"""Off-load: places, what lies there, carrying there, checking, bringing back."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from notfallserver.server.cycle.offloads.desk import PlaceState
from notfallserver.server.offload.place import Keep, Kind, Place, Standing
from notfallserver.server.offload.restic import Snapshot
from notfallserver.server.web.answers import JobAnswer
from notfallserver.server.web.api.actions import absolute_directory
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator, Person

router = APIRouter(tags=["offload"])

PlaceName = Annotated[str, Path(max_length=40, description="A place's name or id")]
Short = Annotated[str, Field(max_length=255)]
Stamp = Annotated[str, Field(max_length=40)]


class KeepBody(BaseModel):
    """How many off-loads of each primary stay; all 0: nothing is removed."""

    model_config = ConfigDict(extra="forbid")

    last: int = Field(default=0, ge=0, le=10000)
    daily: int = Field(default=0, ge=0, le=10000)
    weekly: int = Field(default=0, ge=0, le=10000)
    monthly: int = Field(default=0, ge=0, le=10000)
    yearly: int = Field(default=0, ge=0, le=10000)


class Rules(BaseModel):
    """``primaries`` by name or UUID, none: all; ``times`` as HH:MM of each day; ``append_only``:
    the place lets nothing be removed, so nothing is tried; ``check_days``: 0 only on request."""

    model_config = ConfigDict(extra="forbid")

    primaries: list[Short] = Field(default=[], max_length=1000)
    times: list[Annotated[str, Field(max_length=5)]] = Field(default=[], max_length=48)
    every_version: bool = False
    keep: KeepBody = KeepBody()
    append_only: bool = False
    check_days: int = Field(default=7, ge=0, le=3650)


class PlaceRequest(Rules):
    """Where it is: ``directory`` with ``path``; ``disk`` with ``disks`` (UUIDs of filesystems) and
    perhaps ``path``; ``sftp`` with ``host``, ``port``, ``user``, ``path``; ``s3`` with ``url``,
    ``path`` (bucket and folder), ``region`` and the secrets ``access_key``, ``secret_key``;
    ``rest`` with ``url``, ``path`` and perhaps ``user_name``, ``password``. ``key`` opens what lies
    there already; left out, one is made."""

    name: Short
    kind: Kind
    path: Annotated[str, Field(max_length=1000)] = ""
    url: Annotated[str, Field(max_length=500)] = ""
    host: Short = ""
    port: int = Field(default=22, ge=1, le=65535)
    user: Short = ""
    region: Short = ""
    disks: list[Short] = Field(default=[], max_length=50)
    secrets: dict[Short, Annotated[str, Field(max_length=500)]] = Field(default={}, max_length=8)
    key: Short = ""


class MediumAnswer(BaseModel):
    """What is known of one repository; ``disk`` is empty where there is only one."""

    disk: str
    present: bool
    done_at: datetime | None
    tried_at: datetime | None
    checked_at: datetime | None
    problem: str
    check_problem: str
    told: str
    bytes_added: int


class PlaceAnswer(BaseModel):
    """``key_kept``: somebody said that the key lies in a safe place. ``public_key`` is what an SFTP
    server must let in, ``known_host`` the fingerprints of its own keys that are trusted."""

    id: str
    name: str
    kind: Kind
    shown: str
    standing: Standing
    primaries: list[str]
    times: list[str]
    every_version: bool
    keep: KeepBody
    append_only: bool
    check_days: int
    media: list[MediumAnswer]
    done_at: datetime | None
    next_at: datetime | None
    key_kept: bool
    public_key: str
    known_host: str


class MadeAnswer(BaseModel):
    """``key`` opens all that is carried there: it is told this once."""

    place: PlaceAnswer
    key: str


class KeyAnswer(BaseModel):
    key: str


class HostAnswer(BaseModel):
    known_host: str


class RunRequest(BaseModel):
    """Left out: the newest versions of all that the place is for. ``every``: all versions;
    ``deep``: read all, whatever is known."""

    model_config = ConfigDict(extra="forbid")

    primaries: list[Short] = Field(default=[], max_length=1000)
    version: Stamp = ""
    every: bool = False
    deep: bool = False
    disk: Short = ""


class CheckRequest(BaseModel):
    """``whole``: read all that lies there, and not a part."""

    model_config = ConfigDict(extra="forbid")

    whole: bool = False
    disk: Short = ""


class RestoreRequest(BaseModel):
    """``version``: the newest where none is named."""

    model_config = ConfigDict(extra="forbid")

    primary: Short
    version: Stamp = ""
    disk: Short = ""


class FetchRequest(RestoreRequest):
    """One disk (``number``, from 0) as a raw file ``to`` on the emergency server."""

    number: int = Field(ge=0, le=1000)
    to: str = Field(min_length=1, max_length=4096)


class HeldAnswer(BaseModel):
    """One off-loaded version; ``primary`` is empty where it is the emergency server itself."""

    primary: str
    name: str
    version: str
    taken_at: datetime

    @classmethod
    def of(cls, one: Snapshot) -> HeldAnswer:
        return cls(
            primary=one.primary,
            name=one.name,
            version=one.stamp,
            taken_at=datetime.fromisoformat(_seconds(one.taken_at)),
        )


def _seconds(moment: str) -> str:
    """Without what is finer than Python's microseconds."""
    head, dot, rest = moment.partition(".")
    if not dot:
        return moment
    digits = len(rest) - len(rest.lstrip("0123456789"))
    return f"{head}.{rest[: min(digits, 6)].ljust(6, '0')}{rest[digits:]}"


def place_answer(state: PlaceState, names: dict[str, str]) -> PlaceAnswer:
    place = state.place
    media = [
        MediumAnswer(
            disk=disk,
            present=disk in state.present or not disk,
            done_at=_moment(one.done_at),
            tried_at=_moment(one.tried_at),
            checked_at=_moment(one.checked_at),
            problem=one.problem,
            check_problem=one.check_problem,
            told=one.told,
            bytes_added=one.added,
        )
        for disk, one in sorted(state.media.items())
    ]
    done = [one.done_at for one in media if one.done_at]
    return PlaceAnswer(
        id=place.id,
        name=place.name,
        kind=place.kind,
        shown=place.shown,
        standing=state.standing,
        primaries=[names.get(one, one) for one in place.primaries],
        times=list(place.times),
        every_version=place.every_version,
        keep=KeepBody(**vars(place.keep)),
        append_only=place.append_only,
        check_days=place.check_days,
        media=media,
        done_at=max(done, default=None),
        next_at=state.next_at,
        key_kept=state.key_kept,
        public_key=state.public_key,
        known_host=state.known_host,
    )


def _moment(told: str) -> datetime | None:
    return datetime.fromisoformat(told) if told else None


def _answer(request: Request, place: Place) -> PlaceAnswer:
    house = house_of(request)
    return place_answer(house.conductor.offloads.state(place), house.catalogue.primaries.names())


def _rules(request: Request, body: Rules) -> dict[str, Any]:
    find = house_of(request).catalogue.primaries.find
    return {
        "primaries": tuple(find(one).uuid for one in body.primaries),
        "times": tuple(sorted(set(body.times))),
        "every_version": body.every_version,
        "keep": Keep(**body.keep.model_dump()),
        "append_only": body.append_only,
        "check_days": body.check_days,
    }


@router.get("/offload/places")
def list_places(request: Request, who: Person) -> list[PlaceAnswer]:
    house = house_of(request)
    names = house.catalogue.primaries.names()
    return [place_answer(one, names) for one in house.conductor.offloads.states()]


@router.post("/offload/places", status_code=201)
def add_place(request: Request, body: PlaceRequest, who: Administrator) -> MadeAnswer:
    """Nothing is carried yet. The key is told once: print it."""
    where = body.model_dump(include={"path", "url", "host", "port", "user", "region"})
    place = Place(
        "", body.name.strip(), body.kind, **where, disks=tuple(body.disks), **_rules(request, body)
    )
    offloads = house_of(request).conductor.offloads
    made, key = offloads.add(place, body.secrets, body.key, who)
    return MadeAnswer(place=_answer(request, made), key=key)


@router.post("/offload/places/{name}")
def change_place(request: Request, name: PlaceName, body: Rules, who: Administrator) -> PlaceAnswer:
    """Other rules; where it is stays."""
    offloads = house_of(request).conductor.offloads
    changed = replace(offloads.places.find(name), **_rules(request, body))
    offloads.change(changed, who)
    return _answer(request, changed)


@router.post("/offload/places/{name}/remove", status_code=204)
def remove_place(request: Request, name: PlaceName, who: Administrator) -> Response:
    """Forget it and its key; what lies there stays."""
    house_of(request).conductor.offloads.remove(name, who)
    return Response(status_code=204)


@router.post("/offload/places/{name}/key")
def show_key(request: Request, name: PlaceName, who: Administrator) -> KeyAnswer:
    """Until somebody said that it is kept; then to root alone."""
    return KeyAnswer(key=house_of(request).conductor.offloads.key(name, who))


@router.post("/offload/places/{name}/key-kept", status_code=204)
def key_is_kept(request: Request, name: PlaceName, who: Administrator) -> Response:
    """It was printed and lies in a safe place: it is not shown again."""
    house_of(request).conductor.offloads.key_is_kept(name, who)
    return Response(status_code=204)


@router.post("/offload/places/{name}/trust")
def trust_host(request: Request, name: PlaceName, who: Administrator) -> HostAnswer:
    """Trust the keys that the SFTP server shows now; compare the fingerprints with its own."""
    return HostAnswer(known_host=house_of(request).conductor.offloads.trust_host(name, who))


@router.get("/offload/places/{name}/contents")
def list_contents(
    request: Request, name: PlaceName, who: Administrator, disk: str = "", fresh: bool = False
) -> list[HeldAnswer]:
    """The newest first; ``fresh``: the place is asked now, which may take a minute."""
    found = house_of(request).conductor.offloads.contents(name, disk, fresh)
    return [HeldAnswer.of(one) for one in found]


@router.post("/offload/places/{name}/run", status_code=202)
def run_offload(
    request: Request, name: PlaceName, body: RunRequest, who: Administrator
) -> JobAnswer:
    offloads = house_of(request).conductor.offloads
    return JobAnswer.of(offloads.run(name, who, **body.model_dump()))


@router.post("/offload/places/{name}/check", status_code=202)
def check_offload(
    request: Request, name: PlaceName, body: CheckRequest, who: Administrator
) -> JobAnswer:
    """Read a part of what lies there, and bring samples back."""
    return JobAnswer.of(house_of(request).conductor.offloads.check(name, who, **body.model_dump()))


@router.post("/offload/places/{name}/restore", status_code=202)
def restore_version(
    request: Request, name: PlaceName, body: RestoreRequest, who: Administrator
) -> JobAnswer:
    """Bring a version into the pool; each of its blocks is checked before it counts."""
    offloads = house_of(request).conductor.offloads
    return JobAnswer.of(offloads.restore(name, body.primary, who, body.version, body.disk))


@router.post("/offload/places/{name}/fetch", status_code=202)
def fetch_disk(
    request: Request, name: PlaceName, body: FetchRequest, who: Administrator
) -> JobAnswer:
    """Bring one disk of a version back as a raw file."""
    offloads = house_of(request).conductor.offloads
    to = absolute_directory(body.to)
    job = offloads.fetch_disk(name, body.primary, body.number, to, who, body.version)
    return JobAnswer.of(job)
