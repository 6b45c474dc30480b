"""The first start: the server's set-up as a checklist, looked at anew while it is open."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response

from notfallserver.server.records.passwords import SHORTEST, require_same
from notfallserver.server.web.api.setting_up import (
    Stand,
    has_own_password,
    keep_stand,
    stand_of,
    steps_of,
)
from notfallserver.server.web.page.show import go, show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator, token_of
from notfallserver.server.web.words.setting_up import Step
from notfallserver.server.web.words.situation import Light
from notfallserver.wire.errors import NotfallError

router = APIRouter()
Password = Annotated[str, Form(max_length=1000)]


@router.get("/setup")
def set_up_page(
    request: Request, who: Administrator, step: Annotated[str, Query(max_length=20)] = ""
) -> Response:
    """``step`` is the one to show opened; else the first that needs somebody."""
    catalogue = house_of(request).catalogue
    if stand_of(catalogue) is Stand.NEW:
        keep_stand(catalogue, Stand.BEGUN, who)
    return show(request, "setup.html", _present(request, who, step))


@router.get("/setup/present")
def present(
    request: Request,
    who: Administrator,
    step: Annotated[str, Query(max_length=20)] = "",
    seen: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """The steps looked at anew; nothing where all is as in the part that is shown (``seen``)."""
    values = _present(request, who, step)
    if seen == values["seen"]:
        return Response(status_code=204)
    return show(request, "parts/setup.html", values)


@router.post("/setup/password")
def choose_password(
    request: Request, who: Administrator, password: Password = "", again: Password = ""
) -> Response:
    """A password of one's own instead of the one that was made up; this session goes on, all others
    of this name end. Later, ``/account`` asks for the old one."""
    catalogue = house_of(request).catalogue
    if has_own_password(catalogue, who):
        return go(request, "/account")
    try:
        require_same(password, again)
        catalogue.people.set_password(who, password, who, keep=token_of(request))
    except NotfallError as problem:
        return show(request, "setup.html", _present(request, who, "password", problem), 422)
    return go(request, "/setup")


@router.post("/setup/medium")
def build_medium(request: Request, who: Administrator) -> Response:
    house_of(request).conductor.build_rescue(who)
    return go(request, "/setup?step=medium")


@router.post("/setup/state")
def change_state(request: Request, who: Administrator, state: Annotated[Stand, Form()]) -> Response:
    """Put aside, finished, or taken up again."""
    keep_stand(house_of(request).catalogue, state, who)
    return go(request, "/setup" if state is Stand.BEGUN else "/")


def _present(
    request: Request, who: str, chosen: str, problem: NotfallError | None = None
) -> dict[str, object]:
    steps = steps_of(request, who)
    house = house_of(request)
    rows = house.catalogue.primaries.all()
    building = house.catalogue.jobs.unfinished(kind="rescue_build")
    seen = hashlib.sha256(repr((steps, chosen, [one.name for one in rows])).encode()).hexdigest()
    return {
        "steps": steps,
        "open": chosen if chosen in {one.key for one in steps} else _needed(steps),
        "chosen": chosen,
        "seen": seen,
        "problem": problem,
        "names": [one.name for one in rows],
        "building": building[0] if building else None,
        "all_good": all(one.light is Light.GOOD for one in steps),
        "stand": stand_of(house.catalogue),
        "least": SHORTEST,
    }


def _needed(steps: tuple[Step, ...]) -> str:
    """The first step that waits for somebody."""
    return next((one.key for one in steps if one.light not in (Light.GOOD, Light.BUSY)), "server")
