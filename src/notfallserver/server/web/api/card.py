"""The emergency card: what somebody writes on it, and the PDF."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from notfallserver.server.addresses import address_urls
from notfallserver.server.web.card import Card
from notfallserver.server.web.language import speech
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator

router = APIRouter(tags=["card"])
CARD = "card"


class CardTexts(BaseModel):
    """What somebody writes on the emergency card: ``contacts`` is whom to call, a line each."""

    model_config = ConfigDict(extra="forbid")

    company: str = Field(default="", max_length=60)
    contacts: str = Field(default="", max_length=400)


@router.get("/card")
def show_card(request: Request, who: Administrator) -> CardTexts:
    return card_texts(request)


@router.post("/card", status_code=204)
def change_card(request: Request, body: CardTexts, who: Administrator) -> Response:
    """What the emergency card says of the company, and whom to call."""
    house_of(request).catalogue.notes.keep(CARD, body.model_dump(), "card-changed", who)
    return Response(status_code=204)


@router.get("/card.pdf")
def card_pdf(
    request: Request,
    who: Administrator,
    language: Annotated[str, Query(pattern="^(en|de)$")] = "en",
) -> Response:
    """The emergency card, one page A4."""
    return pdf_answer(request, language)


def card_texts(request: Request) -> CardTexts:
    return CardTexts.model_validate(house_of(request).catalogue.notes.read(CARD))


def card_of(request: Request) -> Card:
    """What is on the card today."""
    house = house_of(request)
    texts = card_texts(request)
    return Card(
        company=texts.company.strip(),
        contacts=tuple(one.strip() for one in texts.contacts.splitlines() if one.strip()),
        urls=tuple(dict.fromkeys([*house.urls[:2], *address_urls(house.settings)])),
        fingerprint=house.authority.fingerprint,
        people=tuple((one.name, one.role) for one in house.catalogue.people.all()),
        servers=tuple(
            (one.name, tuple(one.machine.addresses()) if one.machine else ())
            for one in house.catalogue.primaries.all()
            if one.newest_version
        ),
    )


def pdf_answer(request: Request, language: str) -> Response:
    from notfallserver.server.web.card_drawing import draw_card

    content = draw_card(card_of(request), speech(language))
    shown = f'attachment; filename="notfallserver-{language}.pdf"'
    return Response(content, media_type="application/pdf", headers={"Content-Disposition": shown})
