"""How a page is answered: in the reader's language, and an error in words instead of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from notfallserver.server.web.language import LANGUAGES, Speech, speech, speech_for
from notfallserver.server.web.people import reader_of
from notfallserver.wire.errors import NotfallError

STATIC = Path(__file__).parent.parent / "static"
PROGRAMS = ("/api/", "/agent/", "/target/", "/metrics")
"""What lies below these is for programs; whoever is not logged in elsewhere is asked to."""
LANGUAGE_COOKIE = "notfall-language"


def speech_of(request: Request) -> Speech:
    """The language that was chosen, else the browser's."""
    chosen = request.cookies.get(LANGUAGE_COOKIE, "")
    if chosen in LANGUAGES:
        return speech(chosen)
    return speech_for(request.headers.get("accept-language", ""))


def show(
    request: Request, template: str, values: Mapping[str, object], status: int = 200
) -> HTMLResponse:
    """A page or a part of one."""
    text = speech_of(request).page(
        template, person=reader_of(request), here=request.url.path, **values
    )
    return HTMLResponse(text, status, headers={"Vary": "Accept-Language, Cookie"})


def by_script(request: Request) -> bool:
    """Whether a part of a page is asked for. A form that is sent before the page's script runs
    asks for a whole page."""
    return "hx-request" in request.headers


def go(request: Request, to: str) -> Response:
    """Another page; htmx is told so in a way that makes it load the page as a whole."""
    if by_script(request):
        return Response(status_code=204, headers={"HX-Redirect": to})
    return RedirectResponse(to, 303)


def wants_words(request: Request, error: NotfallError) -> bool:
    """Whether a browser asks for a page, and not a program for JSON."""
    if by_script(request) or "text/html" in request.headers.get("accept", ""):
        return True
    return error.status == 401 and not request.url.path.startswith(PROGRAMS)


def tell_in_words(request: Request, error: NotfallError) -> Response:
    """An error as a page; who is not logged in is asked to, who lacks a second factor is led
    to it."""
    if error.status == 401:
        return go(request, "/login")
    if error.code == "second-factor-needed":
        return go(request, "/account/second-factor")
    if by_script(request):
        return show(request, "parts/problem.html", {"error": error}, error.status)
    back = urlsplit(request.headers.get("referer", "")).path or "/"
    return show(request, "problem.html", {"error": error, "back": back}, error.status)
