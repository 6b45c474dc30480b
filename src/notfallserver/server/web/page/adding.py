"""Adding a server: its name, the line to paste there, waiting until it appears, following its first
copy until it is protected."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, Response

from notfallserver.server.web.api.primaries import InviteRequest, invite
from notfallserver.server.web.api.setting_up import is_prepared
from notfallserver.server.web.page.overview import overview_of
from notfallserver.server.web.page.show import go, show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator, Operator, Person
from notfallserver.server.web.words.beginning import Place, stages
from notfallserver.wire.errors import NotfallError

router = APIRouter()
Called = Annotated[str, Form(min_length=1, max_length=63)]
Known = Annotated[str, Query(max_length=80)]


@router.get("/add")
def name_page(request: Request, who: Administrator) -> Response:
    return show(request, "add.html", {"made": None, "error": None, "name": ""})


@router.post("/add")
def make_line(request: Request, who: Administrator, name: Called) -> Response:
    """The line is shown once; only its hash is kept."""
    try:
        made = invite(request, InviteRequest(name=name.strip()), who)
    except NotfallError as error:
        values = {"made": None, "error": error, "name": name}
        return show(request, "add.html", values, error.status)
    return show(request, "add.html", {"made": made, "error": None, "name": made.name})


@router.get("/add/arrived")
def arrived(request: Request, who: Administrator, name: Known) -> Response:
    """Leads on as soon as it is there; until then nothing changes."""
    try:
        found = house_of(request).catalogue.primaries.find(name)
    except NotfallError:
        return Response(status_code=204)
    return go(request, f"/add/follow?name={found.name}")


@router.get("/add/follow")
def follow_page(request: Request, who: Person, name: Known) -> Response:
    """The first copy, and making it ready, until the server is protected."""
    return show(request, "following.html", _present(request, name))


@router.get("/add/follow/present")
def present(request: Request, who: Person, name: Known) -> HTMLResponse:
    """The part of the page that changes."""
    return show(request, "parts/following.html", _present(request, name))


@router.post("/add/follow")
def begin(request: Request, who: Operator, name: Annotated[str, Form(max_length=80)]) -> Response:
    """The first copy now, where no schedule begins it."""
    house = house_of(request)
    row = house.catalogue.primaries.find(name)
    house.conductor.replicate(row.uuid, who)
    return go(request, f"/add/follow?name={row.name}")


def _present(request: Request, name: str) -> dict[str, object]:
    shown = overview_of(request, name)
    primary = shown.primary
    marks = stages(primary, is_prepared(request, primary.uuid), shown.failed)
    return {**shown.values(), "stages": marks, "protected": marks[-1].place is Place.DONE}
