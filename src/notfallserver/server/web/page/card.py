"""The emergency card: what it is for, what is on it, and the button that makes it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response

from notfallserver.server.web.api.card import (
    CardTexts,
    card_of,
    card_texts,
    change_card,
    pdf_answer,
)
from notfallserver.server.web.card import ROLES
from notfallserver.server.web.language import LANGUAGES
from notfallserver.server.web.page.show import go, show, speech_of
from notfallserver.server.web.people import Administrator

router = APIRouter()


@router.get("/card")
def card_page(request: Request, who: Administrator, kept: bool = False) -> Response:
    values = {
        "card": card_of(request),
        "texts": card_texts(request),
        "roles": ROLES,
        "languages": LANGUAGES,
        "kept": kept,
    }
    return show(request, "card.html", values)


@router.post("/card")
def keep_texts(
    request: Request,
    who: Administrator,
    company: Annotated[str, Form(max_length=60)] = "",
    contacts: Annotated[str, Form(max_length=400)] = "",
) -> Response:
    change_card(request, CardTexts(company=company, contacts=contacts), who)
    return go(request, "/card?kept=1")


@router.get("/card.pdf")
def card_pdf(
    request: Request, who: Administrator, language: Annotated[str, Query(max_length=8)] = ""
) -> Response:
    """One page A4 in the language asked for, else in the reader's."""
    wanted = language if language in LANGUAGES else speech_of(request).language
    return pdf_answer(request, wanted)
