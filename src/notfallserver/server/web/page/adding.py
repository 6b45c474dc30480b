"""Adding a server: its name, the line to paste there, waiting until it appears."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response

from notfallserver.server.web.api.primaries import InviteRequest, invite
from notfallserver.server.web.page.show import go, show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator
from notfallserver.wire.errors import NotfallError

router = APIRouter()
Called = Annotated[str, Form(min_length=1, max_length=63)]


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
def arrived(
    request: Request, who: Administrator, name: Annotated[str, Query(max_length=63)]
) -> Response:
    """Leads to its page as soon as it is there; until then nothing changes."""
    try:
        house_of(request).catalogue.primaries.find(name)
    except NotfallError:
        return Response(status_code=204)
    return go(request, f"/p/{name}")
