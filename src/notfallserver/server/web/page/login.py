"""Logging in (in one step or two) and out, and the choice of the language."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from notfallserver.server.web.entrance import Entered
from notfallserver.server.web.language import LANGUAGES
from notfallserver.server.web.page.show import LANGUAGE_COOKIE, show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import (
    COOKIE,
    MARK_COOKIE,
    entrance_of,
    find_person,
    visitor_of,
)
from notfallserver.wire.errors import NotfallError

router = APIRouter()
TICKET_COOKIE = "__Host-notfall-login"
_YEAR_S = 365 * 86400


class _Strict(TypedDict):
    path: str
    secure: bool
    httponly: bool
    samesite: Literal["strict"]


_COOKIE: _Strict = {"path": "/", "secure": True, "httponly": True, "samesite": "strict"}
"""For this site only, and not for scripts."""


@router.get("/login")
def login_page(request: Request) -> Response:
    if find_person(request):
        return RedirectResponse("/", 303)
    return show(request, "login.html", {"error": None, "name": ""})


@router.post("/login")
def log_in(
    request: Request,
    name: Annotated[str, Form(max_length=63)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """The first step: name and password."""
    name = name.strip()
    try:
        found = entrance_of(request).begin(name, password, visitor_of(request))
    except NotfallError as error:
        return show(request, "login.html", {"error": error, "name": name}, error.status)
    if isinstance(found, Entered):
        return _enter(found)
    answer = RedirectResponse("/login/code", 303)
    answer.set_cookie(TICKET_COOKIE, found.ticket, **_COOKIE)
    return answer


@router.get("/login/code")
def code_page(request: Request) -> Response:
    if TICKET_COOKIE not in request.cookies:
        return RedirectResponse("/login", 303)
    return show(request, "code.html", {"error": None})


@router.post("/login/code")
def give_code(request: Request, code: Annotated[str, Form(max_length=40)] = "") -> Response:
    """The second step: a code from the telephone or from paper."""
    ticket = request.cookies.get(TICKET_COOKIE, "")
    try:
        entered = entrance_of(request).prove(ticket, code, visitor_of(request))
    except NotfallError as error:
        if error.code == "login-over":
            return show(request, "login.html", {"error": error, "name": ""}, error.status)
        return show(request, "code.html", {"error": error}, error.status)
    answer = _enter(entered)
    answer.delete_cookie(TICKET_COOKIE, **_COOKIE)
    return answer


def _enter(entered: Entered) -> Response:
    answer = RedirectResponse("/", 303)
    answer.set_cookie(COOKIE, entered.token, **_COOKIE)
    if entered.mark:
        answer.set_cookie(MARK_COOKIE, entered.mark, _YEAR_S, **_COOKIE)
    return answer


@router.post("/logout")
def log_out(request: Request) -> Response:
    house_of(request).catalogue.sessions.end(request.cookies.get(COOKIE, ""))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, **_COOKIE)
    return answer


@router.post("/language")
def choose_language(
    request: Request,
    language: Annotated[str, Form(max_length=8)],
    back: Annotated[str, Form(max_length=200)] = "/",
) -> Response:
    """Kept in the browser; ``back`` is the page to show again."""
    parts = urlsplit(back)
    inside = back.startswith("/") and not back.startswith(("//", "/\\")) and not parts.netloc
    answer = RedirectResponse(back if inside else "/", 303)
    if language in LANGUAGES:
        answer.set_cookie(
            LANGUAGE_COOKIE, language, _YEAR_S, path="/", secure=True, samesite="strict"
        )
    return answer
