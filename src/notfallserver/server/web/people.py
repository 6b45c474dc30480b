"""Who the person at the other end is, and what that person may do.

By session cookie of the page, or the command line's token.
"""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from notfallserver.server.records.people import Role, Somebody
from notfallserver.server.web.brake import Visitor
from notfallserver.server.web.entrance import Entrance
from notfallserver.server.web.peer import house_of
from notfallserver.wire.errors import NotfallError

COOKIE = "__Host-notfall"
MARK_COOKIE = "__Host-notfall-known"


def token_of(request: HTTPConnection) -> str:
    """The session's token, or the command line's; "" for none."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token if kind.lower() == "bearer" else request.cookies.get(COOKIE, "")


def find_person(request: HTTPConnection) -> Somebody | None:
    """The person, or None. What one may do is for :func:`require_role` to say."""
    token = token_of(request)
    return house_of(request).catalogue.sessions.who(token) if token else None


def visitor_of(request: Request) -> Visitor:
    """Who tries to log in."""
    address = request.client.host if request.client else ""
    return Visitor(address, request.cookies.get(MARK_COOKIE, ""))


def entrance_of(request: Request) -> Entrance:
    return cast(Entrance, request.app.state.entrance)


def require_role(request: HTTPConnection, needed: Role, bare: bool = False) -> str:
    """Who calls; whoever may not do this is refused.

    ``bare``: also those who still must set up their second factor.
    """
    somebody = find_person(request)
    if somebody is None:
        raise NotfallError(
            "not-logged-in",
            "This needs a login.",
            "Log in on the page, or use 'notfall' as root on the emergency server.",
            status=401,
        )
    if somebody.bare and not bare:
        raise NotfallError(
            "second-factor-needed",
            "Everybody needs a second factor here, and you have none yet.",
            "Set it up: log in on the page.",
            status=403,
        )
    if not somebody.role.covers(needed):
        raise NotfallError(
            "not-allowed",
            f"'{somebody.name}' is {somebody.role} here; this needs the role {needed}.",
            "Ask an administrator of this emergency server.",
            status=403,
        )
    house_of(request).catalogue.sessions.saw(token_of(request))
    request.state.person = somebody
    return somebody.name


def reader_of(request: Request) -> Somebody | None:
    """Who reads the answer: whoever was let in, even if the session has ended since."""
    return getattr(request.state, "person", None) or find_person(request)


def _anybody(request: Request) -> str:
    return require_role(request, Role.VIEWER, bare=True)


def _viewer(request: Request) -> str:
    return require_role(request, Role.VIEWER)


def _operator(request: Request) -> str:
    return require_role(request, Role.OPERATOR)


def _administrator(request: Request) -> str:
    return require_role(request, Role.ADMINISTRATOR)


Anybody = Annotated[str, Depends(_anybody)]
"""Whoever is logged in, even if the second factor that all must have is still missing."""
Person = Annotated[str, Depends(_viewer)]
"""Whoever is logged in: may look."""
Operator = Annotated[str, Depends(_operator)]
"""May copy, start and stop stand-ins, bring servers back."""
Administrator = Annotated[str, Depends(_administrator)]
"""May everything: add and remove servers, overrule the guard, change settings and people."""
