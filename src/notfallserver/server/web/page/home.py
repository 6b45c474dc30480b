"""Home: one tile per primary, worst first, and what the server itself is doing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from notfallserver.server.cycle.plans.run import KIND
from notfallserver.server.cycle.state import State
from notfallserver.server.records.events import PrimaryHeard
from notfallserver.server.web.answers import JobAnswer, PrimaryAnswer
from notfallserver.server.web.api.setting_up import Stand, stand_of
from notfallserver.server.web.page.overview import overview
from notfallserver.server.web.page.show import go, show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Person, find_person
from notfallserver.server.web.stream import changes
from notfallserver.server.web.words.situation import Light

router = APIRouter()
Find = Annotated[str, Query(max_length=80)]
MANY = 12
"""More servers than these are grouped, and can be searched."""
PACE_S = 1.0
"""No browser is told of changes more often."""
_WORST_FIRST = list(Light)


@router.get("/")
def home(request: Request, who: Person, find: Find = "") -> Response:
    """The servers; on the first start, for whoever may, the set-up."""
    catalogue = house_of(request).catalogue
    stand, somebody = stand_of(catalogue), find_person(request)
    unset = stand in (Stand.NEW, Stand.BEGUN) and somebody is not None and somebody.administers
    if unset and not catalogue.primaries.all():
        return go(request, "/setup")
    values = {**_tiles(request, find), "unset": unset and stand is Stand.BEGUN}
    return show(request, "home.html", values)


@router.get("/tiles")
def tiles(request: Request, who: Person, find: Find = "") -> HTMLResponse:
    """The part of the page that changes; ``find`` is in the name, system or address of what is
    shown."""
    return show(request, "parts/tiles.html", _tiles(request, find))


@router.get("/changes")
async def follow(request: Request, who: Person) -> StreamingResponse:
    """Server-sent events without content: each says that the page is worth another look."""

    async def stream() -> AsyncIterator[str]:
        async for _ in changes(request, lambda event: not isinstance(event, PrimaryHeard)):
            yield "data: \n\n"
            await asyncio.sleep(PACE_S)
        yield "data: \n\n"  # who was logged out asks once more, and learns it

    return StreamingResponse(stream(), media_type="text/event-stream")


def _tiles(request: Request, find: str) -> dict[str, object]:
    """All that the tiles show. Of many servers those that are well are told briefly."""
    house = house_of(request)
    catalogue = house.catalogue
    jobs = catalogue.jobs.unfinished()
    unmended = catalogue.jobs.unmended()
    primaries = [PrimaryAnswer.of(one, jobs) for one in catalogue.primaries.all()]
    found = [overview(one, unmended) for one in primaries]
    found.sort(key=lambda one: (_WORST_FIRST.index(one.situation.light), one.primary.name))
    shown = [one for one in found if _fits(one.primary, find.strip().lower())]
    counts = {light: sum(one.situation.light is light for one in found) for light in Light}
    return {
        "tiles": shown,
        "groups": {
            light: [one for one in shown if one.situation.light is light] for light in Light
        },
        "many": len(found) > MANY,
        "total": len(found),
        "find": find,
        "counts": counts,
        "down": sum(one.state == State.OUTAGE and bool(one.newest_version) for one in primaries),
        "starting": any(one.kind == KIND for one in jobs),
        "other_jobs": [JobAnswer.of(one) for one in jobs if one.primary is None],
        "health": house.health.grade,
    }


def _fits(primary: PrimaryAnswer, find: str) -> bool:
    told = (primary.name, primary.hostname, primary.system, *primary.addresses)
    return not find or any(find in one.lower() for one in told)
