"""Home: one tile per primary, worst first, and what the server itself is doing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from notfallserver.server.web.answers import JobAnswer, PrimaryAnswer
from notfallserver.server.web.page.overview import overview
from notfallserver.server.web.page.show import show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Person
from notfallserver.server.web.stream import changes
from notfallserver.server.web.words.situation import Light

router = APIRouter()
PACE_S = 1.0
"""No browser is told of changes more often."""
_WORST_FIRST = list(Light)


@router.get("/")
def home(request: Request, who: Person) -> Response:
    return show(request, "home.html", _tiles(request))


@router.get("/tiles")
def tiles(request: Request, who: Person) -> HTMLResponse:
    """The part of the page that changes."""
    return show(request, "parts/tiles.html", _tiles(request))


@router.get("/changes")
async def follow(request: Request, who: Person) -> StreamingResponse:
    """Server-sent events without content: each says that the page is worth another look."""

    async def stream() -> AsyncIterator[str]:
        async for _ in changes(request):
            yield "data: \n\n"
            await asyncio.sleep(PACE_S)

    return StreamingResponse(stream(), media_type="text/event-stream")


def _tiles(request: Request) -> dict[str, object]:
    house = house_of(request)
    catalogue = house.catalogue
    jobs = catalogue.jobs.unfinished()
    unmended = catalogue.jobs.unmended()
    primaries = [PrimaryAnswer.of(one, jobs) for one in catalogue.primaries.all()]
    found = [overview(one, unmended) for one in primaries]
    found.sort(key=lambda one: (_WORST_FIRST.index(one.situation.light), one.primary.name))
    counts = {light: sum(one.situation.light is light for one in found) for light in Light}
    return {
        "tiles": found,
        "counts": counts,
        "other_jobs": [JobAnswer.of(one) for one in jobs if one.primary is None],
        "health": house.health.grade,
    }
