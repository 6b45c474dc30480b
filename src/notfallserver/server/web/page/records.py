"""What was done: the journal with its filter, and the jobs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from notfallserver.server.web.answers import JobAnswer
from notfallserver.server.web.page.show import show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Operator, Person
from notfallserver.server.web.words.history import happening

router = APIRouter()
ENTRIES, JOBS = 100, 100


@router.get("/journal")
def journal(
    request: Request,
    who: Person,
    primary: Annotated[str, Query(max_length=80)] = "",
    before: Annotated[int | None, Query(ge=1, lt=1 << 63)] = None,
) -> Response:
    """Newest first; ``before`` goes on from an entry's id."""
    catalogue = house_of(request).catalogue
    chosen = catalogue.primaries.find(primary) if primary else None
    entries = catalogue.journal.entries(chosen.uuid if chosen else None, ENTRIES + 1, before)
    names = {one.uuid: one.name for one in catalogue.primaries.all()}
    values = {
        "entries": [
            (names.get(one.primary or "", ""), happening(one)) for one in entries[:ENTRIES]
        ],
        "names": sorted(names.values()),
        "chosen": chosen.name if chosen else "",
        "older": entries[ENTRIES - 1].id if len(entries) > ENTRIES else None,
    }
    return show(request, "journal.html", values)


@router.get("/jobs")
def jobs(request: Request, who: Person) -> Response:
    return show(request, "jobs.html", _jobs(request))


@router.get("/jobs/present")
def present(request: Request, who: Person) -> Response:
    """The part of the page that changes."""
    return show(request, "parts/jobs.html", _jobs(request))


@router.post("/jobs/{job}/cancel")
def cancel(request: Request, job: str, who: Operator) -> Response:
    house_of(request).runner.cancel(job, who)
    return present(request, who)


def _jobs(request: Request) -> dict[str, object]:
    catalogue = house_of(request).catalogue
    names = {one.uuid: one.name for one in catalogue.primaries.all()}
    newest = catalogue.jobs.newest(limit=JOBS)
    return {"jobs": [JobAnswer.of(job, names.get(job.primary or "", "")) for job in newest]}
