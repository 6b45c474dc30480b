"""Off-load: the places, how each stands, what it holds; carrying, checking, bringing back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError

from notfallserver.server.offload.place import Kind
from notfallserver.server.web.answers import JobAnswer
from notfallserver.server.web.api.offloads import (
    CheckRequest,
    KeepBody,
    PlaceAnswer,
    PlaceName,
    PlaceRequest,
    RestoreRequest,
    Rules,
    RunRequest,
    add_place,
    change_place,
    check_offload,
    key_is_kept,
    list_contents,
    list_places,
    remove_place,
    restore_version,
    run_offload,
    show_key,
    trust_host,
)
from notfallserver.server.web.page.show import go, show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator
from notfallserver.server.web.words.offloads import KINDS, STANDINGS
from notfallserver.wire.errors import NotfallError

router = APIRouter(prefix="/off-load")

Typed = TypeVar("Typed", bound=BaseModel)
TYPED = ("name", "path", "url", "host", "user", "region", "disks", "times")
EMPTY = dict.fromkeys(TYPED, "")
"""What stands in the form; secrets are never shown again."""
Short = Annotated[str, Form(max_length=255)]
Text = Annotated[str, Form(max_length=1000)]
Count = Annotated[int, Form(ge=0, le=10000)]


@dataclass(frozen=True)
class Shown:
    """A place with its words, and the job that is under way with it."""

    place: PlaceAnswer
    light: str
    title: str
    job: JobAnswer | None
    problems: tuple[NotfallError, ...]


def _shown(request: Request, who: str) -> list[Shown]:
    jobs = [
        one
        for one in house_of(request).catalogue.jobs.unfinished()
        if one.kind.startswith("offload")
    ]
    found = []
    for place in list_places(request, who):
        light, title = STANDINGS[place.standing]
        mine = [one for one in jobs if one.parameters.get("place") in (place.id, place.name)]
        job = JobAnswer.of(mine[0]) if mine else None
        problems = tuple(
            NotfallError(one.check_problem or one.problem, one.told)
            for one in place.media
            if one.check_problem or one.problem
        )
        found.append(Shown(place, light, title, job, problems))
    return found


def _read(model: type[Typed], values: Mapping[str, Any]) -> Typed:
    """As the API takes it; what it does not take is told like any other mistake."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        told = "; ".join(f"{one['loc'][0]}: {one['msg']}" for one in error.errors()[:3])
        raise NotfallError("bad-place", told, "Type it again.", status=422) from None


@router.get("")
def places_page(request: Request, who: Administrator) -> Response:
    return _list(request, who)


def _list(request: Request, who: str, error: NotfallError | None = None) -> Response:
    values = {"places": _shown(request, who), "kinds": KINDS, "error": error}
    return show(request, "offloads.html", values, error.status if error else 200)


@router.get("/add")
def add_page(
    request: Request, who: Administrator, kind: Annotated[Kind, Query()] = Kind.DISK
) -> Response:
    return show(request, "offload_add.html", {"kind": kind, "typed": EMPTY, "error": None})


@router.post("/add")
def add(
    request: Request,
    who: Administrator,
    kind: Annotated[Kind, Form()],
    name: Short = "",
    path: Text = "",
    url: Text = "",
    host: Short = "",
    port: Annotated[int, Form(ge=1, le=65535)] = 22,
    user: Short = "",
    region: Short = "",
    disks: Text = "",
    access_key: Text = "",
    secret_key: Text = "",
    user_name: Text = "",
    password: Text = "",
    key: Short = "",
    times: Short = "",
) -> Response:
    """The answer shows the key, this once."""
    typed = {
        "name": name.strip(),
        "path": path.strip(),
        "url": url.strip(),
        "host": host.strip(),
        "user": user.strip(),
        "region": region.strip(),
    }
    secrets = {
        "access_key": access_key.strip(),
        "secret_key": secret_key.strip(),
        "user_name": user_name.strip(),
        "password": password,
    }
    try:
        further = {
            "kind": kind,
            "port": port,
            "disks": disks.replace(",", " ").split(),
            "secrets": {name: one for name, one in secrets.items() if one},
            "key": key.strip(),
            "times": times.replace(",", " ").split(),
        }
        body = _read(PlaceRequest, {**typed, **further})
        made = add_place(request, body, who)
    except NotfallError as error:
        values = {"kind": kind, "typed": {**typed, "disks": disks, "times": times}, "error": error}
        return show(request, "offload_add.html", values, error.status)
    return show(request, "offload_key.html", {"place": made.place, "key": made.key})


@router.get("/{name}")
def place_page(request: Request, who: Administrator, name: PlaceName) -> Response:
    return _place(request, who, name)


def _place(request: Request, who: str, name: str, error: NotfallError | None = None) -> Response:
    place_id = house_of(request).conductor.offloads.places.find(name).id
    shown = next(one for one in _shown(request, who) if one.place.id == place_id)
    held = [one for one in list_contents(request, name, who) if one.primary]
    own = next((one for one in list_contents(request, name, who) if not one.primary), None)
    rows = house_of(request).catalogue.primaries.all()
    chosen = {one for row in rows for one in (row.uuid, row.name) if one in shown.place.primaries}
    values = {
        "shown": shown,
        "place": shown.place,
        "held": held,
        "own": own,
        "servers": [(one, one.uuid in chosen or one.name in chosen) for one in rows],
        "error": error,
    }
    return show(request, "offload_place.html", values, error.status if error else 200)


@router.post("/{name}/run")
def run(request: Request, who: Administrator, name: PlaceName) -> Response:
    try:
        run_offload(request, name, RunRequest(), who)
    except NotfallError as error:
        return _place(request, who, name, error)
    return go(request, "/off-load")


@router.post("/{name}/check")
def check(request: Request, who: Administrator, name: PlaceName) -> Response:
    try:
        check_offload(request, name, CheckRequest(), who)
    except NotfallError as error:
        return _place(request, who, name, error)
    return go(request, "/off-load")


@router.post("/{name}/restore")
def restore(
    request: Request, who: Administrator, name: PlaceName, primary: Short, version: Short
) -> Response:
    try:
        restore_version(request, name, RestoreRequest(primary=primary, version=version), who)
    except NotfallError as error:
        return _place(request, who, name, error)
    return go(request, "/off-load")


@router.post("/{name}/rules")
def rules(
    request: Request,
    who: Administrator,
    name: PlaceName,
    primaries: Annotated[Sequence[str], Form(max_length=1000)] = (),
    times: Short = "",
    last: Count = 0,
    daily: Count = 0,
    weekly: Count = 0,
    monthly: Count = 0,
    yearly: Count = 0,
    check_days: Annotated[int, Form(ge=0, le=3650)] = 7,
    every_version: Annotated[bool, Form()] = False,
    append_only: Annotated[bool, Form()] = False,
) -> Response:
    """No primary: it is for all, also those that come later."""
    known = house_of(request).conductor.offloads.places.find(name)
    wish = {
        "primaries": list(primaries),
        "times": times.replace(",", " ").split(),
        "every_version": every_version,
        "keep": KeepBody(last=last, daily=daily, weekly=weekly, monthly=monthly, yearly=yearly),
        "append_only": append_only,
        "check_days": check_days,
    }
    try:
        change_place(request, name, _read(Rules, wish), who)
    except NotfallError as error:
        return _place(request, who, name, error)
    return go(request, f"/off-load/{known.id}")


@router.post("/{name}/key")
def key(request: Request, who: Administrator, name: PlaceName) -> Response:
    place_id = house_of(request).conductor.offloads.places.find(name).id
    shown = next(one for one in _shown(request, who) if one.place.id == place_id)
    told = show_key(request, name, who)
    return show(request, "offload_key.html", {"place": shown.place, "key": told.key})


@router.post("/{name}/key-kept")
def kept(request: Request, who: Administrator, name: PlaceName) -> Response:
    key_is_kept(request, name, who)
    return go(request, f"/off-load/{name}")


@router.post("/{name}/trust")
def trust(request: Request, who: Administrator, name: PlaceName) -> Response:
    try:
        trust_host(request, name, who)
    except NotfallError as error:
        return _place(request, who, name, error)
    return go(request, f"/off-load/{name}")


@router.post("/{name}/remove")
def remove(request: Request, who: Administrator, name: PlaceName) -> Response:
    try:
        remove_place(request, name, who)
    except NotfallError as error:
        return _place(request, who, name, error)
    return go(request, "/off-load")
