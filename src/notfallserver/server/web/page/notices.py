"""Notifications: who is told, by which way; adding, changing, testing, removing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import Response

from notfallserver.server.records.receivers import Kind, Summary
from notfallserver.server.web.api.notices import (
    ReceiverAnswer,
    ReceiverName,
    ReceiverRequest,
    TestAnswer,
    Way,
    add_receiver,
    change_receiver,
    list_receivers,
    remove_receiver,
    test_receiver,
)
from notfallserver.server.web.page.show import go, show, speech_of
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator
from notfallserver.wire.errors import NotfallError

router = APIRouter(prefix="/notifications")
Language = Literal["de", "en"]
WayKind = Literal["mail", "webhook", "ntfy", "telegram", "other"]
Short = Annotated[str, Form(max_length=63)]
Text = Annotated[str, Form(max_length=1000)]


@dataclass(frozen=True)
class Typed:
    """What stands in the form; secrets are never shown again, not even what was just typed."""

    name: str = ""
    kinds: Sequence[Kind] = (Kind.URGENT, Kind.WARNING)
    language: Language = "en"
    summary: Summary = Summary.NEVER
    server: str = ""
    sender: str = ""
    to: str = ""
    security: str = "starttls"
    port: str = ""
    user: str = ""
    topic: str = ""
    chat: str = ""
    ntfy: str = "https://ntfy.sh"


class Filled:
    """The form as it was sent."""

    def __init__(
        self,
        way: Annotated[WayKind | None, Form()] = None,
        name: Short = "",
        kinds: Annotated[Sequence[Kind], Form(max_length=3)] = (),
        language: Annotated[Language, Form()] = "en",
        summary: Annotated[Summary, Form()] = Summary.NEVER,
        server: Text = "",
        sender: Text = "",
        to: Text = "",
        security: Annotated[Literal["starttls", "ssl", "none"], Form()] = "starttls",
        port: Annotated[str, Form(max_length=5, pattern="^[0-9]*$")] = "",
        user: Text = "",
        password: Text = "",
        url: Text = "",
        topic: Text = "",
        token: Text = "",
        chat: Text = "",
        ntfy: Text = "",
    ) -> None:
        self.way = way
        self.typed = Typed(
            *(name.strip(), kinds, language, summary, server, sender, to, security, port),
            *(user, topic, chat, ntfy or Typed.ntfy),
        )
        self._secret = {"password": password, "token": token, "url": url}

    def request(self) -> ReceiverRequest:
        """As the API takes it; refused where something that is needed is missing."""
        typed = self.typed
        way = None
        if self.way is not None:
            shown = ("server", "sender", "to", "security", "user", "topic", "chat")
            values = {key: getattr(typed, key) for key in shown}
            port = int(typed.port or 0)
            if port > 65535:
                raise NotfallError("bad-address", "There is no such port.", status=422)
            values |= {**self._secret, "kind": self.way, "port": port}
            if self.way == "ntfy":
                values["url"] = typed.ntfy
            way = Way(**values)
        return ReceiverRequest(
            name=typed.name or " ",
            kinds=list(typed.kinds),
            language=typed.language,
            summary=typed.summary,
            way=way,
        )


Form_ = Annotated[Filled, Depends()]


@router.get("")
def receivers_page(request: Request, who: Administrator) -> Response:
    return _list(request, who)


@router.get("/add")
def form_page(
    request: Request, who: Administrator, way: Annotated[WayKind, Query()] = "mail"
) -> Response:
    return _form(
        request, None, way, Typed(language="de" if speech_of(request).language == "de" else "en")
    )


@router.post("/add")
def add(request: Request, who: Administrator, filled: Form_) -> Response:
    try:
        if filled.way is None:
            raise NotfallError("bad-address", "It is not said how to reach them.", status=422)
        add_receiver(request, filled.request(), who)
    except NotfallError as error:
        return _form(request, None, filled.way or "other", filled.typed, error)
    return go(request, "/notifications")


@router.get("/{receiver}")
def change_page(
    request: Request,
    who: Administrator,
    receiver: ReceiverName,
    way: Annotated[WayKind | None, Query()] = None,
) -> Response:
    """``way``: with another address, to be typed as a whole; the old one is not shown."""
    known = _find(request, receiver)
    typed = Typed(known.name, known.kinds, known.language, known.summary)
    return _form(request, known, way, typed)


@router.post("/{receiver}")
def change(request: Request, who: Administrator, receiver: ReceiverName, filled: Form_) -> Response:
    known = _find(request, receiver)
    try:
        change_receiver(request, known.id, filled.request(), who)
    except NotfallError as error:
        return _form(request, known, filled.way, filled.typed, error)
    return go(request, "/notifications")


@router.post("/{receiver}/test")
def test(request: Request, who: Administrator, receiver: ReceiverName) -> Response:
    """Sends now, and says what became of it."""
    known = _find(request, receiver)
    return _list(request, who, known.id, test_receiver(request, known.id, who))


@router.post("/{receiver}/remove")
def remove(request: Request, who: Administrator, receiver: ReceiverName) -> Response:
    remove_receiver(request, receiver, who)
    return go(request, "/notifications")


def _find(request: Request, name: str) -> ReceiverAnswer:
    return ReceiverAnswer.of(house_of(request).catalogue.receivers.find(name))


def _list(
    request: Request, who: str, tested: str = "", outcome: TestAnswer | None = None
) -> Response:
    values = {"receivers": list_receivers(request, who), "tested": tested, "outcome": outcome}
    return show(request, "notices.html", values)


def _form(
    request: Request,
    known: ReceiverAnswer | None,
    way: WayKind | None,
    typed: Typed,
    error: NotfallError | None = None,
) -> Response:
    values = {"known": known, "way": way, "typed": typed, "error": error}
    return show(request, "notice.html", values, error.status if error else 200)
