"""Who is told what is the matter: list, add, change, test, remove. Addresses go in, never out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from notfallserver.server.records.receivers import Kind, Receiver, Summary, Wanted
from notfallserver.server.tell.address import Address, Mail, Ntfy, Other, Telegram, Webhook
from notfallserver.server.tell.carrier import check
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator
from notfallserver.wire.errors import NotfallError

router = APIRouter(tags=["notices"])

ReceiverName = Annotated[str, Path(max_length=63, description="A receiver's name or id")]
Text = Annotated[str, Field(max_length=1000)]


class Way(BaseModel):
    """How to reach somebody; the fields of the other ways stay empty.

    ``mail``: server, sender, to, security, port, user, password. ``webhook``: url. ``ntfy``: topic,
    url (of the server), token. ``telegram``: token, chat. ``other``: url, an address of Apprise.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Literal["mail", "webhook", "ntfy", "telegram", "other"]
    server: Text = ""
    sender: Text = ""
    to: Text = ""
    security: Literal["starttls", "ssl", "none"] = "starttls"
    port: int = Field(default=0, ge=0, le=65535)
    user: Text = ""
    password: Text = ""
    url: Text = ""
    topic: Text = ""
    token: Text = ""
    chat: Text = ""

    def address(self) -> Address:
        """What Apprise needs; refused where something is missing."""
        if self.kind == "mail":
            return Mail(
                self.server,
                self.sender,
                self.to,
                self.security,
                self.port,
                self.user,
                self.password,
            ).address()
        if self.kind == "webhook":
            return Webhook(self.url).address()
        if self.kind == "ntfy":
            return Ntfy(self.topic, self.url or Ntfy.server, self.token).address()
        if self.kind == "telegram":
            return Telegram(self.token, self.chat).address()
        return Other(self.url).address()


class ReceiverRequest(BaseModel):
    """``way`` may be left out when a receiver is changed: then it stays as it is."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=63)
    kinds: list[Kind] = Field(default=[Kind.URGENT, Kind.WARNING], max_length=3)
    language: Literal["de", "en"] = "en"
    summary: Summary = Summary.NEVER
    way: Way | None = None


class ReceiverAnswer(BaseModel):
    """``shown`` is what of the address is no secret."""

    id: str
    name: str
    shown: str
    kinds: list[Kind]
    language: Literal["de", "en"]
    summary: Summary
    sent_at: datetime | None
    failing_since: datetime | None
    problem: str

    @classmethod
    def of(cls, one: Receiver) -> ReceiverAnswer:
        kinds = [kind for kind in Kind if kind in one.kinds]
        return cls.model_validate({**vars(one), "kinds": kinds})


class TestAnswer(BaseModel):
    """``sent``: the other side took it; ``answer`` is what it said."""

    sent: bool
    answer: str


@router.get("/notices")
def list_receivers(request: Request, who: Administrator) -> list[ReceiverAnswer]:
    return [ReceiverAnswer.of(one) for one in house_of(request).catalogue.receivers.all()]


@router.post("/notices", status_code=201)
def add_receiver(request: Request, body: ReceiverRequest, who: Administrator) -> ReceiverAnswer:
    """The address is checked for sense; nothing is sent."""
    if body.way is None:
        raise NotfallError("bad-address", "It is not said how to reach them.", status=422)
    return ReceiverAnswer.of(house_of(request).catalogue.receivers.add(_wanted(body), who))


@router.post("/notices/{name}")
def change_receiver(
    request: Request, name: ReceiverName, body: ReceiverRequest, who: Administrator
) -> ReceiverAnswer:
    receivers = house_of(request).catalogue.receivers
    known = receivers.find(name)
    return ReceiverAnswer.of(receivers.change(known.id, _wanted(body), who))


@router.post("/notices/{name}/test")
def test_receiver(request: Request, name: ReceiverName, who: Administrator) -> TestAnswer:
    """Send a test message now; takes up to 45 seconds when the other side is silent."""
    house = house_of(request)
    receiver = house.catalogue.receivers.find(name)
    outcome = house.teller.test(receiver)
    house.catalogue.journal.write(
        None, "receiver-tested", who, details={"name": receiver.name, "sent": outcome.sent}
    )
    return TestAnswer(sent=outcome.sent, answer=outcome.answer)


@router.post("/notices/{name}/remove", status_code=204)
def remove_receiver(request: Request, name: ReceiverName, who: Administrator) -> Response:
    receivers = house_of(request).catalogue.receivers
    receivers.remove(receivers.find(name).id, who)
    return Response(status_code=204)


def _wanted(body: ReceiverRequest) -> Wanted:
    name = body.name.strip()
    if not name:
        raise NotfallError("receiver-nameless", "The receiver has no name.", status=422)
    if not body.kinds and body.summary is Summary.NEVER:
        raise NotfallError("nothing-chosen", f"'{name}' would never be told anything.", status=422)
    address = body.way.address() if body.way else None
    if address is not None:
        check(address)
    return Wanted(
        name=name,
        kinds=frozenset(body.kinds),
        language=body.language,
        summary=body.summary,
        address=address.url if address else "",
        shown=address.shown[:255] if address else "",
    )
