"""What everybody may do to the own account."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from notfallserver.server.records.people import ROOT
from notfallserver.server.records.second_factor import address_of
from notfallserver.server.web.api.people import Password, PersonAnswer
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import (
    Anybody,
    Person,
    entrance_of,
    token_of,
    visitor_of,
)
from notfallserver.wire.errors import NotfallError

router = APIRouter(prefix="/account", tags=["account"])


class SessionAnswer(BaseModel):
    """``mine``: the one that asks."""

    started_at: datetime | None
    seen_at: datetime | None
    address: str
    mine: bool


class AccountAnswer(PersonAnswer):
    sessions: list[SessionAnswer]


class OwnPasswordRequest(BaseModel):
    """The present password, because a browser may have been left open."""

    model_config = ConfigDict(extra="forbid")

    present: Password


class NewPasswordRequest(OwnPasswordRequest):
    new: Password


class CodeRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    code: str = Field(min_length=1, max_length=40)


class OfferAnswer(BaseModel):
    """A secret for the telephone; ``address`` is what its picture says."""

    secret: str
    address: str


class CodesAnswer(BaseModel):
    """Codes for paper, each good once, told only now."""

    recovery_codes: list[str]


@router.get("")
def account(request: Request, who: Person) -> AccountAnswer:
    catalogue = house_of(request).catalogue
    member = catalogue.people.find(_somebody(who))
    rows = catalogue.sessions.of(who, token_of(request))
    return AccountAnswer(
        **PersonAnswer.of(member).model_dump(),
        sessions=[SessionAnswer.model_validate(vars(one)) for one in rows],
    )


@router.post("/password", status_code=204)
def change_password(request: Request, body: NewPasswordRequest, who: Person) -> Response:
    """All other sessions end."""
    _require_password(request, who, body)
    catalogue = house_of(request).catalogue
    catalogue.people.set_password(who, body.new, who, keep=token_of(request))
    return Response(status_code=204)


@router.post("/second-factor/offer")
def offer(request: Request, who: Anybody) -> OfferAnswer:
    """The same secret until it is confirmed."""
    house = house_of(request)
    secret = house.catalogue.second_factor.offer(_somebody(who))
    host = request.url.hostname or "notfallserver"
    return OfferAnswer(secret=secret, address=address_of(secret, who, host))


@router.post("/second-factor/on")
def switch_on(request: Request, body: CodeRequest, who: Anybody) -> CodesAnswer:
    """Confirmed by a first code; all other sessions end."""
    moment = entrance_of(request).wall()
    codes = house_of(request).catalogue.second_factor.switch_on(
        _somebody(who), body.code, moment, token_of(request)
    )
    return CodesAnswer(recovery_codes=codes)


@router.post("/second-factor/off", status_code=204)
def switch_off(request: Request, body: OwnPasswordRequest, who: Person) -> Response:
    _require_password(request, who, body)
    catalogue = house_of(request).catalogue
    if catalogue.rules.second_factor_required:
        raise NotfallError(
            "second-factor-rule",
            "Everybody needs a second factor here.",
            "An administrator can change that.",
            status=409,
        )
    catalogue.second_factor.switch_off(who, who, token_of(request))
    return Response(status_code=204)


@router.post("/recovery-codes")
def renew_codes(request: Request, body: OwnPasswordRequest, who: Person) -> CodesAnswer:
    """The codes that there were are void."""
    _require_password(request, who, body)
    codes = house_of(request).catalogue.second_factor.renew_codes(who)
    return CodesAnswer(recovery_codes=codes)


@router.post("/sessions/end-others", status_code=204)
def end_others(request: Request, who: Person) -> Response:
    house_of(request).catalogue.sessions.end_others(_somebody(who), token_of(request))
    return Response(status_code=204)


def _require_password(request: Request, who: str, body: OwnPasswordRequest) -> None:
    name = _somebody(who)
    entrance_of(request).require_own_password(name, body.present, visitor_of(request))


def _somebody(who: str) -> str:
    if who == ROOT:
        raise NotfallError(
            "no-account",
            "The command line has no account.",
            "Log in on the page, or use: notfall people",
            status=409,
        )
    return who
