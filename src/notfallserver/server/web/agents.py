"""The agents' routes: by client certificate; frames are passed on as bytes.

Frames come on the lane (:mod:`lane`) or on the ordinary way; :func:`frame_takers` serves both.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from notfallserver.server.cycle.doors import AgentDoor
from notfallserver.server.web.body import read_body, read_object
from notfallserver.server.web.lane import Take
from notfallserver.server.web.peer import agent_of
from notfallserver.server.web.waiting import run_waiting

Agent = Annotated[str, Depends(agent_of)]


def frame_takers(door: AgentDoor) -> dict[str, Take]:
    """What takes a frame, by the last part of its path; the answer may be empty."""

    def blocks(agent: str, run: str, frame: memoryview) -> bytes:
        door.receive(agent, run, frame)
        return b""

    def holes(agent: str, run: str, frame: memoryview) -> bytes:
        door.punch(agent, run, frame)
        return b""

    return {"offer": door.offer, "blocks": blocks, "holes": holes}


def agents_router(door: AgentDoor) -> APIRouter:
    """All routes below /agent/v1 that need a certificate; not part of the people's API."""
    router = APIRouter(prefix="/agent/v1", include_in_schema=False)

    @router.post("/poll")
    async def poll(agent: Agent, request: Request) -> dict[str, Any]:
        return await run_waiting(door.poll, agent, await read_object(request))

    @router.post("/kept-off")
    async def kept_off(agent: Agent, request: Request) -> dict[str, Any]:
        return await run_in_threadpool(door.kept_off, agent, await read_object(request))

    @router.post("/runs")
    async def begin(agent: Agent, request: Request) -> dict[str, Any]:
        return await run_in_threadpool(door.begin, agent, await read_object(request))

    def route_frames(name: str, take: Take) -> None:
        @router.post(f"/runs/{{run}}/{name}")
        async def frame(agent: Agent, run: str, request: Request) -> Response:
            read = memoryview(await read_body(request))
            answer = await run_in_threadpool(take, agent, run, read)
            kind = "application/octet-stream" if answer else None
            return Response(answer, 200 if answer else 204, media_type=kind)

    for name, take in frame_takers(door).items():
        route_frames(name, take)

    @router.post("/runs/{run}/progress")
    async def progress(agent: Agent, run: str, request: Request) -> dict[str, Any]:
        return await run_in_threadpool(door.progress, agent, run, await read_object(request))

    @router.post("/runs/{run}/seal")
    async def seal(agent: Agent, run: str, request: Request) -> dict[str, Any]:
        return await run_in_threadpool(door.seal, agent, run, await read_object(request))

    @router.post("/runs/{run}/fail", status_code=204)
    async def fail(agent: Agent, run: str, request: Request) -> None:
        await run_in_threadpool(door.fail, agent, run, await read_object(request))

    @router.post("/farewell", status_code=204)
    async def farewell(agent: Agent, request: Request) -> None:
        await run_in_threadpool(door.farewell, agent, await read_object(request))

    @router.post("/seeds")
    async def begin_seed(agent: Agent, request: Request) -> dict[str, Any]:
        return await run_in_threadpool(door.begin_seed, agent)

    @router.post("/seeds/{seed}/sealed", status_code=204)
    async def seed_sealed(agent: Agent, seed: str, request: Request) -> None:
        await run_in_threadpool(door.seed_sealed, agent, seed, await read_object(request))

    return router
