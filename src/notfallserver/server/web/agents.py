"""The agents' routes: by client certificate; frames are passed on as bytes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from notfallserver.server.cycle.doors import AgentDoor
from notfallserver.server.web.body import read_body, read_object
from notfallserver.server.web.peer import agent_of
from notfallserver.server.web.waiting import run_waiting

Agent = Annotated[str, Depends(agent_of)]


def agents_router(door: AgentDoor) -> APIRouter:
    """All routes below /agent/v1 that need a certificate; not part of the people's API."""
    router = APIRouter(prefix="/agent/v1", include_in_schema=False)

    @router.post("/poll")
    async def poll(agent: Agent, request: Request) -> dict[str, Any]:
        return await run_waiting(door.poll, agent, await read_object(request))

    @router.post("/runs")
    async def begin(agent: Agent, request: Request) -> dict[str, Any]:
        return await run_in_threadpool(door.begin, agent, await read_object(request))

    @router.post("/runs/{run}/offer")
    async def offer(agent: Agent, run: str, request: Request) -> Response:
        frame = await read_body(request)
        bitmap = await run_in_threadpool(door.offer, agent, run, frame)
        return Response(bitmap, media_type="application/octet-stream")

    @router.post("/runs/{run}/blocks", status_code=204)
    async def blocks(agent: Agent, run: str, request: Request) -> None:
        await run_in_threadpool(door.receive, agent, run, await read_body(request))

    @router.post("/runs/{run}/holes", status_code=204)
    async def holes(agent: Agent, run: str, request: Request) -> None:
        await run_in_threadpool(door.punch, agent, run, await read_body(request))

    @router.post("/runs/{run}/progress")
    async def progress(agent: Agent, run: str, request: Request) -> dict[str, Any]:
        return await run_in_threadpool(door.progress, agent, run, await read_object(request))

    @router.post("/runs/{run}/seal")
    async def seal(agent: Agent, run: str, request: Request) -> dict[str, Any]:
        return await run_in_threadpool(door.seal, agent, run, await read_object(request))

    @router.post("/runs/{run}/fail", status_code=204)
    async def fail(agent: Agent, run: str, request: Request) -> None:
        await run_in_threadpool(door.fail, agent, run, await read_object(request))

    @router.post("/seeds")
    async def begin_seed(agent: Agent, request: Request) -> dict[str, Any]:
        return await run_in_threadpool(door.begin_seed, agent)

    @router.post("/seeds/{seed}/sealed", status_code=204)
    async def seed_sealed(agent: Agent, seed: str, request: Request) -> None:
        await run_in_threadpool(door.seed_sealed, agent, seed, await read_object(request))

    return router
