"""A server is down: look, confirm, watch the stand-in start. One address, its part follows the
state."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from notfallserver.server.cycle.state import State
from notfallserver.server.web.answers import JobAnswer
from notfallserver.server.web.api.actions import ActivateRequest, activate, list_offers
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.page.overview import mark, overview_of
from notfallserver.server.web.page.show import go, show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Operator, Person
from notfallserver.server.web.words.findings import findings_of
from notfallserver.server.web.words.proof import offer_words
from notfallserver.wire.errors import NotfallError

JUST = timedelta(minutes=10)
Part = Annotated[str, Query(max_length=80)]
router = APIRouter(prefix="/p/{name}")


@router.get("/emergency")
def emergency_page(request: Request, name: Name, who: Person) -> Response:
    return show(request, "emergency.html", _present(request, name))


@router.get("/emergency/present")
def present(request: Request, name: Name, who: Person, part: Part = "") -> Response:
    """The part of the page that changes; nothing where ``part``, which is shown, is the same and
    has what a person types."""
    values = _present(request, name)
    if values["part"] in _STILL and part == values["mark"]:
        return Response(status_code=204)
    return show(request, "parts/emergency.html", values)


@router.get("/emergency/findings")
def findings(request: Request, name: Name, who: Operator) -> HTMLResponse:
    """Asks the guard now, which takes a few seconds; changes nothing."""
    house = house_of(request)
    row = house.catalogue.primaries.find(name)
    found = findings_of(house.conductor.examine(row.uuid), row.last_seen)
    offers = [(one, offer_words(one, one.failed_step)) for one in list_offers(request, name, who)]
    values = {**overview_of(request, name).values(), "found": found, "offers": offers}
    return show(request, "parts/findings.html", values)


@router.post("/emergency")
def start(
    request: Request,
    name: Name,
    who: Operator,
    reason: Annotated[str, Form(max_length=1000)] = "",
    switch_off: Annotated[bool, Form()] = False,
    version: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    """Start the stand-in; ``reason`` overrules the guard, ``switch_off`` kills the original,
    ``version`` is the copy that was chosen."""
    body = ActivateRequest(overrule_reason=reason, switch_off=switch_off, version=version or None)
    activate(request, name, body, who)
    return go(request, f"/p/{name}/emergency")


@router.post("/emergency/undo")
def undo(request: Request, name: Name, who: Operator) -> Response:
    house = house_of(request)
    house.conductor.undo(house.catalogue.primaries.find(name).uuid, who)
    return go(request, f"/p/{name}")


@router.get("/screen.png")
def screen(request: Request, name: Name, who: Person) -> Response:
    """What the screen of the stand-in, or of the rehearsal, shows now; dark before it is on."""
    house = house_of(request)
    try:
        picture = house.conductor.screen(house.catalogue.primaries.find(name).uuid)
    except NotfallError as error:
        if error.code not in ("no-such-machine", "hypervisor"):
            raise
        return RedirectResponse("/static/dark.svg", 303)
    return Response(picture, media_type="image/png")


def _present(request: Request, name: str) -> dict[str, object]:
    shown = overview_of(request, name)
    part = _PARTS.get(State(shown.primary.state), "ask")
    if part == "working" and shown.primary.standin_off:
        part = "off"
    failed = shown.failure("activate") or _just_failed(request, shown.primary.uuid)
    return {
        **shown.values(),
        "part": part,
        "mark": mark(part, failed),
        "job": shown.job("activate"),
        "failed": failed,
        "picture": int(time.time()),  # another address each time: the browser loads it anew
    }


def _just_failed(request: Request, primary: str) -> JobAnswer | None:
    """A start that failed a moment ago: whoever ordered it wants to know, also where the original
    was heard meanwhile and all is as it was."""
    since = datetime.now(UTC) - JUST
    for job in house_of(request).catalogue.jobs.unmended(primary):
        if job.kind == "activate" and job.finished_at and job.finished_at > since:
            return JobAnswer.of(job)
    return None


_PARTS = {
    State.NEW: "none",
    State.HANDING_OVER: "handing",
    State.ACTIVATING: "starting",
    State.EMERGENCY: "working",
    State.RECOVERING: "working",
    State.SWITCHING_BACK: "working",
}
_STILL = frozenset({"none", "ask", "working", "off"})
