"""Bringing a server back: medium, code, plan, copying, switching back. One address, its part
follows the state."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, Response
from pydantic import StringConstraints

from notfallserver.server.cycle.state import State
from notfallserver.server.rescue_medium import find_medium
from notfallserver.server.web.answers import PlanAnswer, TargetAnswer
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.page.overview import mark, overview_of
from notfallserver.server.web.page.show import by_script, go, show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Operator, Person
from notfallserver.wire.errors import NotfallError

Part = Annotated[str, Query(max_length=80)]
router = APIRouter()
Code = Annotated[str, Form(min_length=1, max_length=40)]
Grow = Annotated[bool, Form()]
Chosen = Annotated[
    Sequence[Annotated[str, StringConstraints(max_length=200)]], Form(max_length=256)
]
_UNCLEAR = frozenset({"disks-not-clear", "too-few-disks", "bad-disk-names"})
"""A person has to say which disk is which."""


@router.get("/p/{name}/recovery")
def recovery_page(request: Request, name: Name, who: Person) -> Response:
    return show(request, "recovery.html", _present(request, name))


@router.get("/p/{name}/recovery/present")
def present(request: Request, name: Name, who: Person, part: Part = "") -> Response:
    """The part of the page that changes; nothing where ``part``, which is shown, is the same and
    has what a person types."""
    values = _present(request, name)
    if values["part"] in _STILL and part == values["mark"]:
        return Response(status_code=204)
    return show(request, "parts/recovery.html", values)


@router.get("/p/{name}/recovery/plan")
def no_plan(request: Request, name: Name, who: Person) -> Response:
    """Where a browser comes back to that showed the plan as a page of its own."""
    return go(request, f"/p/{name}/recovery")


@router.post("/p/{name}/recovery/plan")
def plan(
    request: Request,
    name: Name,
    who: Operator,
    code: Code,
    grow: Grow = False,
    disk: Chosen = (),
) -> HTMLResponse:
    """What would be overwritten; changes nothing. ``disk``: ``OLD=NEW`` for each that is chosen."""
    house = house_of(request)
    values = _present(request, name)
    row = house.catalogue.primaries.find(name)
    values |= {"code": code, "old_disks": row.machine.disks if row.machine else []}
    values["chosen"] = named = _named(disk)
    try:
        made = house.conductor.plan_recovery(row.uuid, code, named or None, grow)
    except NotfallError as error:
        if error.code not in _UNCLEAR:
            raise
        target = TargetAnswer.of(house.catalogue.targets.by_code(code))
        values |= {"error": error, "target": target}
    else:
        target = TargetAnswer.of(house.catalogue.targets.find(made.target))
        values |= {"plan": PlanAnswer.of(made), "target": target}
        values["chosen"] = named or {
            old: move.new_name for move in made.moves for old in move.old_name.split(" + ")
        }
    return show(request, "parts/plan.html" if by_script(request) else "recovery.html", values)


@router.post("/p/{name}/recovery")
def begin(
    request: Request,
    name: Name,
    who: Operator,
    code: Code,
    confirmed: Annotated[str, Form(min_length=1, max_length=64)],
    grow: Grow = False,
    disk: Chosen = (),
) -> Response:
    """``confirmed`` is the digest of the plan that was shown."""
    house = house_of(request)
    uuid = house.catalogue.primaries.find(name).uuid
    house.conductor.recover(uuid, code, _named(disk) or None, confirmed, who, grow)
    return go(request, f"/p/{name}/recovery")


@router.post("/p/{name}/recovery/switch-back")
def switch_back(
    request: Request,
    name: Name,
    who: Operator,
    at: Annotated[str, Form(max_length=40)] = "",
    offset: Annotated[str, Form(max_length=8)] = "",
) -> Response:
    """``at``: when, as the browser's calendar writes it, ``offset`` its zone; empty: now."""
    house = house_of(request)
    uuid = house.catalogue.primaries.find(name).uuid
    house.conductor.switch_back(uuid, who, _moment(at, offset) if at else None)
    return go(request, f"/p/{name}/recovery")


@router.get("/rescue.iso")
def rescue_medium(request: Request, who: Operator) -> FileResponse:
    """The rescue medium, for BIOS and UEFI, to be written to a USB stick or a disc."""
    medium = find_medium(house_of(request).settings.data_dir / "rescue")
    if medium is None:
        raise NotfallError(
            "no-medium",
            "The rescue medium is still being built.",
            "Wait a few minutes, then try again.",
            retry=True,
            status=409,
        )
    return FileResponse(
        medium.iso, media_type="application/octet-stream", filename="notfallserver-rescue.iso"
    )


def _named(chosen: Sequence[str]) -> dict[str, str]:
    """Old disk's name -> new disk's name; one that is left out has no new name."""
    pairs = (one.partition("=") for one in chosen)
    return {old: new for old, _, new in pairs if old and new}


def _moment(at: str, offset: str) -> datetime:
    try:
        found = datetime.fromisoformat(at + offset)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise NotfallError("bad-time", f"'{at}' is no time.", "Choose day and time of day.")
    return found


def _present(request: Request, name: str) -> dict[str, object]:
    house = house_of(request)
    shown = overview_of(request, name)
    part = _PARTS.get(State(shown.primary.state), "none")
    failed = shown.failure("recover", "switch_back")
    return {
        **shown.values(),
        "part": part,
        "mark": mark(part, failed),
        "job": shown.job("recover", "switch_back"),
        "failed": failed,
        "plan": None,
        "error": None,
        "code": "",
        "medium": find_medium(house.settings.data_dir / "rescue") is not None,
    }


_PARTS = {
    State.EMERGENCY: "begin",
    State.RECOVERING: "copying",
    State.SWITCHING_BACK: "switching",
    State.NORMAL: "done",
}
_STILL = frozenset({"none", "begin"})
