"""The app: all routers in one visible place, errors in one shape."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from notfallserver import VERSION
from notfallserver.server.house import House
from notfallserver.server.web import enrol
from notfallserver.server.web.api import router as api
from notfallserver.server.web.api.health import monitoring
from notfallserver.server.web.api.metrics import scraped
from notfallserver.server.web.console import Consoles
from notfallserver.server.web.entrance import Entrance
from notfallserver.server.web.guard import Guard
from notfallserver.server.web.packed import Packed
from notfallserver.server.web.page import router as page
from notfallserver.server.web.page.show import STATIC, tell_in_words, wants_words
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)


def make_app(house: House, further: Iterable[APIRouter] = ()) -> FastAPI:
    """The app of one server; ``further`` are the routers for agents and targets."""
    app = FastAPI(
        title="Notfallserver",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    app.state.house = house
    app.state.stopping = lambda: False
    app.state.entrance = Entrance(house.catalogue)
    app.state.consoles = Consoles()
    for router in (enrol.router, *further, api, monitoring, scraped, page):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC))
    app.exception_handler(NotfallError)(_tell)
    app.exception_handler(HTTPException)(_tell_http)
    app.exception_handler(RequestValidationError)(_tell_invalid)
    app.exception_handler(ClientDisconnect)(_tell_cut)
    app.exception_handler(Exception)(_tell_unexpected)
    app.add_middleware(Packed)
    app.add_middleware(Guard)
    return app


def _answer(request: Request, error: NotfallError) -> Response:
    """JSON for programs, words for people."""
    if wants_words(request, error):
        return tell_in_words(request, error)
    return JSONResponse(error.to_json(), error.status)


async def _tell(request: Request, error: NotfallError) -> Response:
    if error.status >= 500:
        log.error("%s %s: %s", request.method, request.url.path, error)
    return _answer(request, error)


async def _tell_http(request: Request, error: HTTPException) -> Response:
    known = {404: "not-found", 405: "wrong-method", 413: "too-long"}
    code = known.get(error.status_code, "bad-request")
    where = f"{request.method} {request.url.path[:200]}"
    told = NotfallError(code, f"{where}: {error.detail}.", status=error.status_code)
    answer = _answer(request, told)
    answer.headers.update(error.headers or {})
    return answer


async def _tell_invalid(request: Request, error: RequestValidationError) -> Response:
    told = [
        f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()[:5]
    ]
    return _answer(
        request,
        NotfallError(
            "bad-request",
            f"The request is not understood: {'; '.join(told)}.",
            "See /api/v1/openapi.json.",
            status=422,
        ),
    )


async def _tell_cut(request: Request, error: ClientDisconnect) -> Response:
    """The line was cut within a request: nobody reads the answer, and nothing is wrong here."""
    return _answer(
        request, NotfallError("cut-off", "The request did not arrive whole.", retry=True)
    )


async def _tell_unexpected(request: Request, error: Exception) -> Response:
    told = NotfallError(
        "internal",
        f"An unexpected failure on {request.method} {request.url.path[:200]}.",
        "See the server's log.",
        status=500,
    )
    return _answer(request, told)
