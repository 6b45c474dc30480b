"""A server's own checks: what must be so when its copy runs, as a person described it. Pure.

``tcp``: a port takes connections. ``http``: a page answers with a status, and contains a text.
``script``: a program of root's, in a directory of root's, ends with 0; that is the place for SQL
and all else, because clients of databases need passwords, and those are files of root's as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import SplitResult, urlsplit

from notfallserver.wire.errors import NotfallError

CHECKS = "checks"
"""The key of a primary's checks among its notes."""
MOST = 20
LONGEST = 500
MOST_S = 600
_SCRIPT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,39}", re.ASCII)


class Kind(StrEnum):
    TCP = "tcp"
    HTTP = "http"
    SCRIPT = "script"


@dataclass(frozen=True)
class OwnCheck:
    """``within_s``: so many seconds after the copy answered it has to pass.

    Of an http check the name in ``url`` is only told to the server, which is asked at its own
    address; ``status`` is what it must answer, ``contains`` a text in the page, or empty.
    """

    kind: Kind
    port: int = 0
    url: str = ""
    status: int = 200
    contains: str = ""
    script: str = ""
    within_s: int = 60

    @property
    def name(self) -> str:
        """What people know it by."""
        if self.kind is Kind.TCP:
            return f"port {self.port}"
        return self.url if self.kind is Kind.HTTP else f"script/{self.script}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_checks_of(notes: Mapping[str, Any]) -> tuple[OwnCheck, ...]:
    """Those in the notes of a primary."""
    return tuple(OwnCheck(**{**one, "kind": Kind(one["kind"])}) for one in notes.get(CHECKS, ()))


def describe(wishes: Sequence[OwnCheck]) -> tuple[OwnCheck, ...]:
    """Checks as somebody described them: each sound in itself, what does not belong to it gone."""
    found = tuple(dict.fromkeys(_sound(one) for one in wishes))
    if len(found) > MOST:
        raise _bad(f"There can be at most {MOST} checks")
    return found


def _sound(one: OwnCheck) -> OwnCheck:
    if not 1 <= one.within_s <= MOST_S:
        raise _bad(f"A check has 1 to {MOST_S} seconds")
    if one.kind is Kind.TCP:
        if not 0 < one.port < 65536:
            raise _bad(f"{one.port} is no port")
        return OwnCheck(Kind.TCP, port=one.port, within_s=one.within_s)
    if one.kind is Kind.SCRIPT:
        name = one.script.strip().removeprefix("script/")
        if not _SCRIPT.fullmatch(name):
            raise _bad(f"'{name[:80]}' can't be the name of a script")
        return OwnCheck(Kind.SCRIPT, script=name, within_s=one.within_s)
    url, contains = one.url.strip(), one.contains.strip()
    _need_address(url)
    if not 100 <= one.status <= 599:
        raise _bad(f"{one.status} is no status of a page")
    if len(contains) > LONGEST or not contains.isprintable():
        raise _bad("The text that the page must contain can't be used")
    return OwnCheck(Kind.HTTP, url=url, status=one.status, contains=contains, within_s=one.within_s)


def _need_address(url: str) -> None:
    try:
        parts = address_of(url)
        port = parts.port
    except ValueError:
        raise _bad(f"'{url[:80]}' is no address of a page") from None
    plain = len(url) <= LONGEST and url.isascii() and url.isprintable() and " " not in url
    known = parts.scheme in ("http", "https") and parts.hostname and port != 0
    if not plain or not known or "@" in parts.netloc:
        raise _bad(f"'{url[:80]}' is no address of a page")


def address_of(url: str) -> SplitResult:
    return urlsplit(url)


def port_of(url: str) -> int:
    parts = address_of(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def _bad(why: str) -> NotfallError:
    return NotfallError(
        "bad-check",
        f"{why}.",
        "Name a port, the address of a page such as https://shop.example/login, or script/NAME.",
        status=422,
    )
