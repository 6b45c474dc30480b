"""The jobs: what is under way, what is over."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from notfallserver.server.web.answers import JobAnswer
from notfallserver.server.web.page.show import show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Operator, Person

router = APIRouter()
JOBS = 50
Name = Annotated[str, Query(max_length=80)]
Before = Annotated[str, Query(max_length=40)]
Failed = Annotated[str, Query(max_length=1)]


@router.get("/jobs")
def jobs(
    request: Request, who: Person, primary: Name = "", failed: Failed = "", before: Before = ""
) -> Response:
    """``before`` goes on from a job that is over."""
    return show(request, "jobs.html", _jobs(request, primary, failed, before))


@router.get("/jobs/present")
def present(request: Request, who: Person, primary: Name = "", failed: Failed = "") -> Response:
    """The part of the page that changes."""
    return show(request, "parts/jobs.html", _jobs(request, primary, failed))


@router.post("/jobs/{job}/cancel")
def cancel(request: Request, job: str, who: Operator) -> Response:
    house_of(request).runner.cancel(job, who)
    return present(request, who)


def _jobs(
    request: Request, primary: str = "", failed: str = "", before: str = ""
) -> dict[str, object]:
    """Older pages have only what is over."""
    catalogue = house_of(request).catalogue
    names = catalogue.primaries.names()
    uuid = catalogue.primaries.find(primary).uuid if primary else None
    over = catalogue.jobs.over(JOBS + 1, before, uuid, bool(failed))
    running = [] if before or failed else catalogue.jobs.unfinished(uuid)
    return {
        "under_way": [JobAnswer.of(one, names.get(one.primary or "", "")) for one in running],
        "over": [JobAnswer.of(one, names.get(one.primary or "", "")) for one in over[:JOBS]],
        "older": over[JOBS - 1].id if len(over) > JOBS else "",
        "names": list(names.values()),
        "chosen": {"primary": names[uuid] if uuid else "", "failed": failed},
        "before": before,
    }
