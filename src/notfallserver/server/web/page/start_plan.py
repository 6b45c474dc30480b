"""The start plan: the order, what fits together, starting several servers, and watching it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response

from notfallserver.server.records.start_place import Begins, IfFails
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.api.start_plan import (
    PlaceRequest,
    StartRequest,
    look,
    run_of,
    set_place,
    show_plan,
    start_plan,
)
from notfallserver.server.web.page.show import by_script, go, show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator, Operator, Person
from notfallserver.server.web.start_answers import CapacityAnswer, RunAnswer
from notfallserver.server.web.words.findings import Found, findings_of
from notfallserver.server.web.words.starting import (
    EXPLAINED,
    LIGHTS,
    OUTCOMES,
    capacity_light,
    capacity_words,
    entry_words,
    run_light,
)
from notfallserver.wire.errors import NotfallError

router = APIRouter()
Seconds = Annotated[int, Form(ge=0, le=86400)]
Mib = Annotated[int, Form(ge=0, le=1 << 24)]
Part = Annotated[str, Query(max_length=80)]


@dataclass(frozen=True)
class Candidate:
    """A server that is down, and what the guard says of it."""

    name: str
    uuid: str
    found: Found
    fits: bool


@router.get("/plan")
def plan_page(request: Request, who: Person) -> Response:
    return show(request, "start_plan.html", _plan(request, who))


@router.get("/plan/present")
def present(request: Request, who: Person) -> Response:
    """The part of the page that changes."""
    return show(request, "parts/start_plan.html", _plan(request, who))


@router.post("/plan/{name}/move")
def move(
    request: Request, name: Name, who: Administrator, by: Annotated[int, Form(ge=-1, le=1)]
) -> Response:
    """One place up or down."""
    house = house_of(request)
    house.conductor.start_plans.move(house.catalogue.primaries.find(name).uuid, by, who)
    return present(request, who) if by_script(request) else go(request, "/plan")


@router.get("/plan/start")
def start_page(request: Request, who: Person) -> Response:
    """Which are down; the part asks the guard about them."""
    return show(request, "start_several.html", _start(request, who))


@router.get("/plan/start/present")
def start_present(request: Request, who: Person, part: Part = "") -> Response:
    """The part of the page that changes; nothing where ``part``, which is shown, is the same and
    somebody may be choosing in it."""
    values = _start(request, who)
    if values["part"] != "runs" and part == values["mark"]:
        return Response(status_code=204)
    return show(request, "parts/start_several.html", values)


@router.get("/plan/start/findings")
def findings(request: Request, who: Operator) -> Response:
    """Asks the guard now, which takes a few seconds; changes nothing."""
    checked = look(request)
    capacity = CapacityAnswer.of(checked.capacity)
    values = {
        "candidates": [
            Candidate(
                one.row.name,
                one.row.uuid,
                findings_of(verdict, one.row.last_seen),
                one.row.uuid in checked.fits,
            )
            for one, verdict in checked.candidates
        ],
        "some": bool(checked.fits),
        **_capacity(capacity),
    }
    if by_script(request):
        return show(request, "parts/start_findings.html", values)
    return show(request, "start_findings.html", values)


@router.post("/plan/start")
def start(
    request: Request,
    who: Operator,
    primary: Annotated[Sequence[str], Form(max_length=1000)] = (),
) -> Response:
    """Start those that were chosen."""
    start_plan(request, StartRequest(primaries=[one[:80] for one in primary]), who)
    return go(request, "/plan/start")


@router.post("/plan/stop")
def stop(request: Request, who: Operator) -> Response:
    """Start no further ones; what has started goes on."""
    house = house_of(request)
    run = run_of(request)
    if run is not None and run.job.finished_at is None:
        house.runner.cancel(run.job.id, who)
    return go(request, "/plan/start")


@router.get("/p/{name}/place")
def place_page(request: Request, name: Name, who: Administrator) -> Response:
    return _place(request, name, who)


@router.post("/p/{name}/place")
def save_place(
    request: Request,
    name: Name,
    who: Administrator,
    begins: Annotated[Begins, Form()],
    if_fails: Annotated[IfFails, Form()],
    delay_s: Seconds = 0,
    limit_minutes: Annotated[float, Form(ge=0, le=1440)] = 5,
    memory_mib: Mib = 0,
) -> Response:
    body = PlaceRequest(
        begins=begins,
        delay_s=delay_s,
        limit_s=round(limit_minutes * 60),
        if_fails=if_fails,
        memory_mib=memory_mib,
    )
    try:
        set_place(request, name, body, who)
    except NotfallError as error:
        return _place(request, name, who, error)
    return go(request, "/plan")


def _place(request: Request, name: str, who: str, error: NotfallError | None = None) -> Response:
    row = house_of(request).catalogue.primaries.find(name)
    entries = show_plan(request, who).entries
    (entry,) = [one for one in entries if one.primary == row.uuid]
    minutes = f"{entry.limit_s / 60:.2f}".rstrip("0").rstrip(".")
    values = {"entry": entry, "first": entry is entries[0], "minutes": minutes, "error": error}
    return show(request, "start_place.html", values, error.status if error else 200)


def _plan(request: Request, who: str) -> dict[str, object]:
    plan = show_plan(request, who)
    return {
        "entries": [
            (one, entry_words(one, number == 0)) for number, one in enumerate(plan.entries)
        ],
        "down": plan.down,
        "runs": plan.run if plan.run and plan.run.job.finished_at is None else None,
        **_capacity(plan.capacity),
    }


def _start(request: Request, who: str) -> dict[str, object]:
    plan = show_plan(request, who)
    run = plan.run
    runs = run is not None and run.job.finished_at is None
    part = "runs" if runs else "ask" if plan.down else "nobody"
    asked = f"{part} {plan.down} {run.job.id if run else ''}"
    return {
        "part": part,
        # The same servers down, after the same run, are the same question.
        "mark": sha256(asked.encode()).hexdigest(),
        "down": plan.down,
        **_run(run),
    }


def _run(run: RunAnswer | None) -> dict[str, object]:
    return {
        "run": run,
        "run_light": run_light(run) if run else "",
        "outcomes": OUTCOMES,
        "lights": LIGHTS,
        "explained": EXPLAINED,
    }


def _capacity(capacity: CapacityAnswer) -> dict[str, object]:
    return {"capacity": capacity_words(capacity), "capacity_light": capacity_light(capacity)}
