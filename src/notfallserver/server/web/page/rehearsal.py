"""A rehearsal: the screens of the emergency, plainly marked, and what came of earlier ones."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from notfallserver.server.cycle.state import State
from notfallserver.server.web.answers import RehearsalAnswer
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.api.rehearsals import (
    Id,
    RehearseRequest,
    end_rehearsal,
    list_rehearsals,
    rehearsal_picture,
    rehearse,
)
from notfallserver.server.web.page.overview import overview_of
from notfallserver.server.web.page.show import go, show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Operator, Person

Part = Annotated[str, Query(max_length=20)]
router = APIRouter(prefix="/p/{name}")
EARLIER = 12


@router.get("/rehearsal")
def rehearsal_page(request: Request, name: Name, who: Person) -> Response:
    return show(request, "rehearsal.html", _present(request, name, who))


@router.get("/rehearsal/present")
def present(request: Request, name: Name, who: Person, part: Part = "") -> Response:
    """The part of the page that changes; nothing where ``part``, which is shown, stands still."""
    values = _present(request, name, who)
    if part in _STILL and part == values["part"]:
        return Response(status_code=204)
    return show(request, "parts/rehearsal.html", values)


@router.post("/rehearsal")
def begin(request: Request, name: Name, who: Operator) -> Response:
    """It runs on for the person to look at, until that person ends it or its time is over."""
    rehearse(request, name, RehearseRequest(keep_running=True), who)
    return go(request, f"/p/{name}/rehearsal")


@router.post("/rehearsal/end")
def end(request: Request, name: Name, who: Operator) -> Response:
    end_rehearsal(request, name, who)
    return go(request, f"/p/{name}/rehearsal")


@router.get("/rehearsals/{rehearsal}.png")
def picture(request: Request, name: Name, rehearsal: Id, who: Person) -> Response:
    return rehearsal_picture(request, name, rehearsal, who)


def _present(request: Request, name: str, who: str) -> dict[str, object]:
    house = house_of(request)
    shown = overview_of(request, name)
    known = list_rehearsals(request, name, who)
    job = shown.job("rehearse")
    running = next((one for one in known if job is not None and one.id == job.id), None)
    length = timedelta(minutes=house.settings.rehearsal_minutes)
    return {
        **shown.values(),
        "part": _part(State(shown.primary.state), job is not None, running),
        "job": job,
        "running_now": running,
        "ends_at": running.began_at + length if running else None,
        "length": length.total_seconds(),
        "earlier": [one for one in known if one.ended_at][:EARLIER],
        "picture": int(time.time()),  # another address each time: the browser loads it anew
    }


def _part(state: State, under_way: bool, running: RehearsalAnswer | None) -> str:
    if state is State.REHEARSING:
        if running is not None:
            return "works" if running.outcome == "passed" else "fails"
        return "starting" if under_way else "ending"
    if state is State.NORMAL:
        return "ending" if under_way else "ask"
    return "none"


_STILL = frozenset({"none", "ask"})
