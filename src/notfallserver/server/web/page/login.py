"""Logging in and out, and the choice of the language."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from notfallserver.server.web.language import LANGUAGES
from notfallserver.server.web.page.show import LANGUAGE_COOKIE, show, speech_of
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import COOKIE, find_person
from notfallserver.wire.errors import NotfallError

router = APIRouter()
_YEAR_S = 365 * 86400


@router.get("/login")
def login_page(request: Request) -> Response:
    if find_person(request):
        return RedirectResponse("/", 303)
    return show(request, "login.html", {"problem": ""})


@router.post("/login")
def log_in(
    request: Request,
    name: Annotated[str, Form(max_length=63)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    brake = request.app.state.login_brake
    address = request.client.host if request.client else ""
    try:
        brake.check(address)
        token = house_of(request).catalogue.people.log_in(name, password)
    except NotfallError as error:
        if error.status == 401:
            brake.wrong(address)
        speech = speech_of(request)
        problem = f"{speech.say(error.cause)} {speech.say(error.remedy)}"
        return show(request, "login.html", {"problem": problem}, error.status)
    answer = RedirectResponse("/", 303)
    answer.set_cookie(COOKIE, token, path="/", secure=True, httponly=True, samesite="strict")
    return answer


@router.post("/logout")
def log_out(request: Request) -> Response:
    house_of(request).catalogue.people.log_out(request.cookies.get(COOKIE, ""))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")
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
