"""The first page: the primaries with their state, the age of the newest version, running jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from notfallserver.server.web.answers import JobAnswer, PrimaryAnswer
from notfallserver.server.web.language import Speech, speech_for
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import COOKIE, Person, find_person
from notfallserver.server.web.stream import changes
from notfallserver.wire.errors import NotfallError

STATIC = Path(__file__).parent / "static"

router = APIRouter(include_in_schema=False)


def _speech(request: Request) -> Speech:
    return speech_for(request.headers.get("accept-language", ""))


@router.get("/")
def home(request: Request) -> Response:
    person = find_person(request)
    if person is None:
        return RedirectResponse("/login", 303)
    return HTMLResponse(_speech(request).page("home.html", person=person, **_present(request)))


@router.get("/present")
def present(request: Request, who: Person) -> HTMLResponse:
    """The part of the page that changes."""
    return HTMLResponse(_speech(request).page("present.html", **_present(request)))


@router.get("/changes")
async def follow(request: Request, who: Person) -> StreamingResponse:
    """Server-sent events without content: each says that ``/present`` is worth another look."""

    async def stream() -> AsyncIterator[str]:
        async for _ in changes(request):
            yield "data: \n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


@router.get("/login")
def login_page(request: Request) -> Response:
    if find_person(request):
        return RedirectResponse("/", 303)
    return HTMLResponse(_speech(request).page("login.html", problem=""))


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
        speech = _speech(request)
        problem = f"{speech.say(error.cause)} {speech.say(error.remedy)}"
        return HTMLResponse(speech.page("login.html", problem=problem), error.status)
    answer = RedirectResponse("/", 303)
    answer.set_cookie(COOKIE, token, path="/", secure=True, httponly=True, samesite="strict")
    return answer


@router.post("/logout")
def log_out(request: Request) -> Response:
    house_of(request).catalogue.people.log_out(request.cookies.get(COOKIE, ""))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")
    return answer


def _present(request: Request) -> dict[str, object]:
    catalogue = house_of(request).catalogue
    jobs = catalogue.jobs.unfinished()
    return {
        "primaries": [PrimaryAnswer.of(one, jobs) for one in catalogue.primaries.all()],
        "other_jobs": [JobAnswer.of(one) for one in jobs if one.primary is None],
    }
