"""My account: password, second factor, sessions."""

from __future__ import annotations

from typing import Annotated

import segno
from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response

from notfallserver.server.records.passwords import SHORTEST, require_same
from notfallserver.server.web.api import account as api
from notfallserver.server.web.page.show import go, show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Anybody, Person
from notfallserver.server.web.words.roles import MAY
from notfallserver.wire.errors import NotfallError

router = APIRouter(prefix="/account")
Secret = Annotated[str, Form(max_length=1000)]


@router.get("")
def account_page(
    request: Request, who: Person, done: Annotated[str, Query(max_length=20)] = ""
) -> Response:
    return _account(request, who, done)


@router.post("/password")
def change_password(
    request: Request, who: Person, present: Secret = "", new: Secret = "", again: Secret = ""
) -> Response:
    try:
        require_same(new, again)
        body = api.NewPasswordRequest(present=present, new=new)
        api.change_password(request, body, who)
    except NotfallError as error:
        return _account(request, who, error=error, where="password")
    return go(request, "/account?done=password")


@router.get("/second-factor")
def second_factor_page(request: Request, who: Anybody) -> Response:
    if house_of(request).catalogue.second_factor.has(who):
        return go(request, "/account")
    return _offer(request, who)


@router.post("/second-factor")
def switch_on(
    request: Request, who: Anybody, code: Annotated[str, Form(max_length=40)] = ""
) -> Response:
    try:
        made = api.switch_on(request, api.CodeRequest(code=code or "-"), who)
    except NotfallError as error:
        return _offer(request, who, error)
    return show(request, "recovery-codes.html", {"codes": made.recovery_codes, "fresh": True})


@router.post("/second-factor/off")
def switch_off(request: Request, who: Person, present: Secret = "") -> Response:
    try:
        api.switch_off(request, api.OwnPasswordRequest(present=present), who)
    except NotfallError as error:
        return _account(request, who, error=error, where="off")
    return go(request, "/account?done=off")


@router.post("/recovery-codes")
def renew_codes(request: Request, who: Person, present: Secret = "") -> Response:
    try:
        made = api.renew_codes(request, api.OwnPasswordRequest(present=present), who)
    except NotfallError as error:
        return _account(request, who, error=error, where="codes")
    return show(request, "recovery-codes.html", {"codes": made.recovery_codes, "fresh": False})


@router.post("/sessions/end-others")
def end_others(request: Request, who: Person) -> Response:
    api.end_others(request, who)
    return go(request, "/account?done=sessions")


def _account(
    request: Request,
    who: str,
    done: str = "",
    error: NotfallError | None = None,
    where: str = "",
) -> Response:
    """``where`` is the form that the error belongs to."""
    values = {
        "account": api.account(request, who),
        "required": house_of(request).catalogue.rules.second_factor_required,
        "may": MAY,
        "shortest": SHORTEST,
        "done": done,
        "error": error,
        "where": where,
    }
    return show(request, "account.html", values, error.status if error else 200)


def _offer(request: Request, who: str, error: NotfallError | None = None) -> Response:
    offered = api.offer(request, who)
    picture = segno.make(offered.address, error="m").svg_inline(
        border=2, omitsize=True, dark="#000", light="#fff", svgclass=None, lineclass=None
    )
    secret = offered.secret
    values = {
        "picture": picture,
        "groups": [secret[one : one + 4] for one in range(0, len(secret), 4)],
        "error": error,
    }
    return show(request, "second-factor.html", values, error.status if error else 200)
