"""Who the person at the other end is, and what that person may do.

By session cookie of the page, or the command line's token.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Annotated

from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from notfallserver.server.records.people import Role, Somebody
from notfallserver.server.web.peer import house_of
from notfallserver.wire.errors import NotfallError

COOKIE = "__Host-notfall"
TRIES, TRIES_OVER_S = 8, 300.0


def find_person(request: HTTPConnection) -> Somebody | None:
    """The person, or None."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer":
        token = request.cookies.get(COOKIE, "")
    return house_of(request).catalogue.people.who(token) if token else None


def require_role(request: HTTPConnection, needed: Role) -> str:
    """Who calls; whoever may not do this is refused."""
    somebody = find_person(request)
    if somebody is None:
        raise NotfallError(
            "not-logged-in",
            "This needs a login.",
            "Log in on the page, or use 'notfall' as root on the emergency server.",
            status=401,
        )
    if not somebody.role.covers(needed):
        raise NotfallError(
            "not-allowed",
            f"'{somebody.name}' is {somebody.role} here; this needs the role {needed}.",
            "Ask an administrator of this emergency server.",
            status=403,
        )
    return somebody.name


def _viewer(request: Request) -> str:
    return require_role(request, Role.VIEWER)


def _operator(request: Request) -> str:
    return require_role(request, Role.OPERATOR)


def _administrator(request: Request) -> str:
    return require_role(request, Role.ADMINISTRATOR)


Person = Annotated[str, Depends(_viewer)]
"""Anybody who is logged in: may look."""
Operator = Annotated[str, Depends(_operator)]
"""May copy, start and stop stand-ins, bring servers back."""
Administrator = Annotated[str, Depends(_administrator)]
"""May everything: add and remove servers, overrule the guard, change settings and people."""


class LoginBrake:
    """Refuses further tries after too many wrong passwords from one address."""

    def __init__(self) -> None:
        self._wrong: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def check(self, address: str) -> None:
        with self._lock:
            moment = time.monotonic()
            self._wrong = {
                one: times
                for one, times in self._wrong.items()
                if times and moment - times[-1] < TRIES_OVER_S
            }
            if len(self._wrong.get(address, ())) >= TRIES:
                raise NotfallError(
                    "too-many-tries",
                    "Too many wrong passwords.",
                    "Wait five minutes.",
                    retry=True,
                    status=429,
                )

    def wrong(self, address: str) -> None:
        with self._lock:
            self._wrong.setdefault(address, deque(maxlen=TRIES)).append(time.monotonic())
