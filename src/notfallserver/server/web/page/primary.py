"""One primary: how it stands, the one next step, what happened, its versions, its hardware."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from notfallserver.server.cycle.retention.deletions import read_deletions
from notfallserver.server.cycle.state import State
from notfallserver.server.web.answers import VersionAnswer
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.api.rehearsals import list_rehearsals
from notfallserver.server.web.page.overview import overview_of
from notfallserver.server.web.page.show import go, show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Operator, Person
from notfallserver.server.web.words.history import happenings
from notfallserver.server.web.words.readiness import Readiness, told

router = APIRouter(prefix="/p/{name}")
HAPPENINGS, VERSIONS, REHEARSALS = 12, 12, 3


@router.get("")
def primary_page(request: Request, name: Name, who: Person) -> Response:
    values = {**_present(request, name, who), "readiness": _readiness(request, name)}
    return show(request, "primary.html", values)


@router.get("/present")
def present(request: Request, name: Name, who: Person) -> HTMLResponse:
    """The part of the page that changes."""
    return show(request, "parts/primary.html", _present(request, name, who))


@router.get("/readiness")
def readiness(request: Request, name: Name, who: Person) -> HTMLResponse:
    """What stands in the way of replacing it, looked at anew."""
    values = {**overview_of(request, name).values(), "readiness": _readiness(request, name)}
    return show(request, "parts/readiness.html", values)


@router.post("/replicate")
def replicate(request: Request, name: Name, who: Operator) -> Response:
    house = house_of(request)
    house.conductor.replicate(house.catalogue.primaries.find(name).uuid, who)
    return go(request, f"/p/{name}")


def _readiness(request: Request, name: str) -> Readiness | None:
    """None where that is not the question: in an outage, and while a stand-in works."""
    house = house_of(request)
    row = house.catalogue.primaries.find(name)
    if State(row.state) not in (State.NEW, State.NORMAL, State.REHEARSING):
        return None
    return told(house.conductor.readiness(row.uuid))


def _present(request: Request, name: str, who: str) -> dict[str, object]:
    house = house_of(request)
    shown = overview_of(request, name)
    uuid = shown.primary.uuid
    row = house.catalogue.primaries.find(uuid)
    versions = house.conductor.versions(uuid)
    return {
        **shown.values(),
        "machine": row.machine,
        "pinned": house.conductor.retention.pinned(row),
        "deletions": read_deletions(row.notes),
        "versions": [VersionAnswer.of(one) for one in versions[:VERSIONS]],
        "more_versions": max(0, len(versions) - VERSIONS),
        "rehearsals": list_rehearsals(request, name, who)[:REHEARSALS],
        "happenings": happenings(house.catalogue.journal.entries(uuid, HAPPENINGS)),
    }
