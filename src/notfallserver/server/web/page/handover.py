"""A planned handover, and the way back in the trial period after a switch-back. One address, its
part follows the state."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from notfallserver.server.cycle.state import State
from notfallserver.server.web.api.handover import accept, hand_over, plan_hand_over
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.page.overview import mark, overview_of
from notfallserver.server.web.page.show import go, show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Operator, Person

Part = Annotated[str, Query(max_length=80)]
router = APIRouter(prefix="/p/{name}")


@router.get("/hand-over")
def hand_over_page(request: Request, name: Name, who: Person) -> Response:
    return show(request, "hand_over.html", _present(request, name))


@router.get("/hand-over/present")
def present(request: Request, name: Name, who: Person, part: Part = "") -> Response:
    """The part of the page that changes; nothing where ``part``, which is shown, stands still."""
    values = _present(request, name)
    if values["part"] in _STILL and part == values["mark"]:
        return Response(status_code=204)
    return show(request, "parts/hand_over.html", values)


@router.get("/hand-over/plan")
def plan(request: Request, name: Name, who: Operator) -> HTMLResponse:
    """Whether it can begin, which takes a few seconds to find out; changes nothing."""
    values = {**_present(request, name), "plan": plan_hand_over(request, name, who)}
    return show(request, "parts/hand_over_plan.html", values)


@router.post("/hand-over")
def begin(request: Request, name: Name, who: Operator) -> Response:
    hand_over(request, name, who)
    return go(request, f"/p/{name}/hand-over")


@router.post("/hand-over/undo")
def undo(request: Request, name: Name, who: Operator) -> Response:
    house = house_of(request)
    house.conductor.undo(house.catalogue.primaries.find(name).uuid, who)
    return go(request, f"/p/{name}/hand-over")


@router.post("/accept")
def all_is_well(request: Request, name: Name, who: Operator) -> Response:
    """The trial period after a switch-back is over."""
    accept(request, name, who)
    return go(request, f"/p/{name}")


def _present(request: Request, name: str) -> dict[str, object]:
    shown = overview_of(request, name)
    part = _PARTS.get(State(shown.primary.state), "none")
    failed = shown.failure("hand_over")
    return {
        **shown.values(),
        "part": part,
        "mark": mark(part, failed),
        "job": shown.job("hand_over"),
        "failed": failed,
    }


_PARTS = {
    State.NORMAL: "ask",
    State.HANDING_OVER: "going",
    State.OUTAGE: "off",
    State.ACTIVATING: "starting",
    State.EMERGENCY: "done",
}
_STILL = frozenset({"none", "ask", "off", "done"})
