"""The targets' routes: by the secret that the target made itself."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from notfallserver.server.cycle.doors import TargetDoor
from notfallserver.server.web.body import read_body, read_object
from notfallserver.server.web.waiting import run_waiting
from notfallserver.wire.errors import NotfallError


def secret_of(request: Request) -> str:
    """Dependency: the secret that the target shows."""
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or len(secret) != 64:
        raise NotfallError("no-secret", "The target shows no secret.", status=401)
    return secret


Secret = Annotated[str, Depends(secret_of)]


def targets_router(door: TargetDoor) -> APIRouter:
    """All routes below /target/v1; not part of the people's API."""
    router = APIRouter(prefix="/target/v1", include_in_schema=False)

    @router.post("/register")
    async def register(secret: Secret, request: Request) -> dict[str, Any]:
        return await run_in_threadpool(door.register, secret, await read_object(request))

    @router.post("/poll")
    async def poll(secret: Secret, request: Request) -> dict[str, Any]:
        return await run_waiting(door.poll, secret, await read_object(request))

    @router.get("/index")
    async def index(secret: Secret, version: str, disk: int) -> Response:
        raw = await run_in_threadpool(door.index, secret, version, disk)
        return Response(raw, media_type="application/octet-stream")

    @router.post("/want")
    async def want(secret: Secret, version: str, request: Request) -> Response:
        frame = await run_in_threadpool(door.want, secret, version, await read_body(request))
        return Response(frame, media_type="application/octet-stream")

    @router.post("/drivers")
    async def drivers(secret: Secret, request: Request) -> Response:
        raw = await run_in_threadpool(door.drivers, secret, await read_object(request))
        return Response(raw, media_type="application/octet-stream")

    @router.post("/offer")
    async def offer(secret: Secret, run: str, request: Request) -> Response:
        bitmap = await run_in_threadpool(door.offer, secret, run, await read_body(request))
        return Response(bitmap, media_type="application/octet-stream")

    @router.post("/blocks")
    async def blocks(secret: Secret, run: str, request: Request) -> Response:
        await run_in_threadpool(door.blocks, secret, run, await read_body(request))
        return Response(status_code=204)

    return router
