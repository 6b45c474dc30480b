"""The alarm of one primary: why, which copy is held, and the two answers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from notfallserver.server.web.api.alarm import (
    ClearRequest,
    ConfirmRequest,
    clear_alarm,
    confirm_alarm,
    show_alarm,
)
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.page.overview import overview_of
from notfallserver.server.web.page.show import go, show
from notfallserver.server.web.people import Administrator, Operator, Person

router = APIRouter(prefix="/p/{name}")
Why = Annotated[str, Form(max_length=1000)]
SHOWN = 12


@router.get("/alarm")
def alarm_page(request: Request, name: Name, who: Person) -> Response:
    told = show_alarm(request, name, who)
    values = {"measured": told.measured[:SHOWN], "usual_rate": told.usual_rate}
    return show(request, "alarm.html", {**overview_of(request, name).values(), **values})


@router.post("/alarm/clear")
def clear(
    request: Request,
    name: Name,
    who: Administrator,
    why: Annotated[str, Form(min_length=1, max_length=1000)],
) -> Response:
    clear_alarm(request, name, ClearRequest(why=why), who)
    return go(request, f"/p/{name}")


@router.post("/alarm/confirm")
def confirm(request: Request, name: Name, who: Operator, why: Why = "") -> Response:
    confirm_alarm(request, name, who, ConfirmRequest(why=why))
    return go(request, f"/p/{name}/alarm")
