"""Which answers are sent packed: pages to browsers that can, and nothing else."""

from __future__ import annotations

import asyncio
import gzip

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from notfallserver.server.web.packed import LEAST, Packed

LONG = "word " * LEAST


async def page(request: Request) -> Response:
    return HTMLResponse(LONG, headers={"Vary": "Cookie"})


async def short(request: Request) -> Response:
    return HTMLResponse("short")


async def frames(request: Request) -> Response:
    return Response(LONG, media_type="application/octet-stream")


async def stream(request: Request) -> Response:
    return StreamingResponse(iter([LONG, LONG]), media_type="text/event-stream")


ROUTES = [
    Route("/page", page, methods=["GET", "POST"]),
    *(Route(f"/{one.__name__}", one) for one in (short, frames, stream)),
]


async def ask(method: str, path: str, accepted: str) -> tuple[httpx.Response, bytes]:
    transport = httpx.ASGITransport(Packed(Starlette(routes=ROUTES)))
    async with httpx.AsyncClient(transport=transport, base_url="https://x") as client:
        head = {"accept-encoding": accepted}
        async with client.stream(method, path, headers=head) as answer:
            return answer, b"".join([part async for part in answer.aiter_raw()])


@pytest.mark.parametrize(
    ("method", "path", "accepted", "packed"),
    [
        ("GET", "/page", "gzip, br", True),
        ("GET", "/page", "identity", False),
        ("POST", "/page", "gzip", False),  # the answer may hold a secret
        ("GET", "/short", "gzip", False),
        ("GET", "/frames", "gzip", False),
        ("GET", "/stream", "gzip", False),
    ],
)
def test_packed(method: str, path: str, accepted: str, packed: bool) -> None:
    answer, raw = asyncio.run(ask(method, path, accepted))
    assert (answer.headers.get("content-encoding") == "gzip") is packed
    if packed:
        assert gzip.decompress(raw).decode() == LONG
        assert answer.headers["vary"] == "Cookie, Accept-Encoding"
        assert int(answer.headers["content-length"]) == len(raw) < len(LONG)
