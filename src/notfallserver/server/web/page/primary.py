"""One primary: how it stands, the one next step, what happened, its versions, its hardware."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from notfallserver.server.web.answers import VersionAnswer
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.api.rehearsals import list_rehearsals
from notfallserver.server.web.page.overview import overview_of
from notfallserver.server.web.page.show import go, show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Operator, Person
from notfallserver.server.web.words.history import happenings

router = APIRouter(prefix="/p/{name}")
HAPPENINGS, VERSIONS, REHEARSALS = 12, 12, 3


@router.get("")
def primary_page(request: Request, name: Name, who: Person) -> Response:
    return show(request, "primary.html", _present(request, name, who))


@router.get("/present")
def present(request: Request, name: Name, who: Person) -> HTMLResponse:
    """The part of the page that changes."""
    return show(request, "parts/primary.html", _present(request, name, who))


@router.post("/replicate")
def replicate(request: Request, name: Name, who: Operator) -> Response:
    house = house_of(request)
    house.conductor.replicate(house.catalogue.primaries.find(name).uuid, who)
    return go(request, f"/p/{name}")


def _present(request: Request, name: str, who: str) -> dict[str, object]:
    house = house_of(request)
    shown = overview_of(request, name)
    uuid = shown.primary.uuid
    versions = house.conductor.versions(uuid)
    return {
        **shown.values(),
        "machine": house.catalogue.primaries.find(uuid).machine,
        "versions": [VersionAnswer.of(one) for one in versions[:VERSIONS]],
        "more_versions": max(0, len(versions) - VERSIONS),
        "rehearsals": list_rehearsals(request, name, who)[:REHEARSALS],
        "happenings": happenings(house.catalogue.journal.entries(uuid, HAPPENINGS)),
    }
