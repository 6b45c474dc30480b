"""Jobs: list, one, follow, cancel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from notfallserver.server.records.events import Event, JobChanged
from notfallserver.server.web.answers import JobAnswer
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Operator, Person
from notfallserver.server.web.stream import changes

router = APIRouter(tags=["jobs"])

JobId = Annotated[str, Path(max_length=40)]
Limit = Annotated[int, Query(ge=1, le=1000)]
Primary = Annotated[str | None, Query(max_length=80, description="A primary's name or UUID")]
Kind = Annotated[str | None, Query(max_length=40, description="Only jobs of this kind: activate")]


@router.get("/jobs")
def list_jobs(
    request: Request,
    who: Person,
    primary: Primary = None,
    kind: Kind = None,
    limit: Limit = 50,
) -> list[JobAnswer]:
    """Newest first, finished ones too."""
    catalogue = house_of(request).catalogue
    uuid = catalogue.primaries.find(primary).uuid if primary else None
    names = _names(request)
    return [
        JobAnswer.of(job, names.get(job.primary or "", ""))
        for job in catalogue.jobs.newest(uuid, kind, limit)
    ]


@router.get("/jobs/{job}")
def show_job(request: Request, job: JobId, who: Person) -> JobAnswer:
    found = house_of(request).catalogue.jobs.find(job)
    return JobAnswer.of(found, _names(request).get(found.primary or "", ""))


@router.get("/jobs/{job}/follow", response_class=StreamingResponse)
async def follow_job(request: Request, job: JobId, who: Person) -> StreamingResponse:
    """Server-sent events: the job (as JSON) now and at each change, until it is over."""
    jobs = house_of(request).catalogue.jobs
    await run_in_threadpool(jobs.find, job)
    names = await run_in_threadpool(_names, request)

    def concerns(event: Event) -> bool:
        return isinstance(event, JobChanged) and event.job == job

    async def stream() -> AsyncIterator[str]:
        async for _ in changes(request, concerns):
            row = await run_in_threadpool(jobs.find, job)
            answer = JobAnswer.of(row, names.get(row.primary or "", ""))
            yield f"data: {answer.model_dump_json()}\n\n"
            if row.finished:
                return
            await asyncio.sleep(0.2)

    return StreamingResponse(stream(), media_type="text/event-stream")


@router.post("/jobs/{job}/cancel", status_code=202)
def cancel_job(request: Request, job: JobId, who: Operator) -> JobAnswer:
    cancelled = house_of(request).runner.cancel(job, who)
    return JobAnswer.of(cancelled, _names(request).get(cancelled.primary or "", ""))


def _names(request: Request) -> dict[str, str]:
    return house_of(request).catalogue.primaries.names()
