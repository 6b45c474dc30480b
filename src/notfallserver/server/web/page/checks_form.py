"""The form of a server's own checks: those that are made, and one more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Form

from notfallserver.server.cycle.rehearsal.checks import Kind
from notfallserver.server.web.api.checks import CheckAnswer, CheckRequest, ChecksRequest

KINDS = (
    ("http", "A page answers"),
    ("tcp", "A port takes connections"),
    ("script", "A script on the emergency server succeeds"),
)
TEXTS = tuple(text for _, text in KINDS)
Short = Annotated[str, Form(max_length=500)]


@dataclass(frozen=True)
class TypedCheck:
    """As it stands in the form; ``what`` is a port, an address, or a script's name."""

    kind: Kind = Kind.HTTP
    what: str = ""
    status: int = 200
    contains: str = ""
    within_s: int = 60

    def request(self, known: list[CheckAnswer]) -> ChecksRequest:
        """Beside those that are there."""
        what = self.what.strip()
        port = int(what) if what.isdecimal() and len(what) < 6 and int(what) < 65536 else 0
        fields: dict[Kind, dict[str, object]] = {
            Kind.TCP: {"port": port},
            Kind.HTTP: {"url": what, "status": self.status, "contains": self.contains},
            Kind.SCRIPT: {"script": what[:80]},
        }
        one = {"kind": self.kind, "within_s": self.within_s, **fields[self.kind]}
        return ChecksRequest.model_validate({"checks": [*_wishes(known), one]})


def without(known: list[CheckAnswer], name: str) -> ChecksRequest:
    return ChecksRequest.model_validate(
        {"checks": _wishes([one for one in known if one.name != name])}
    )


def _wishes(known: list[CheckAnswer]) -> list[dict[str, object]]:
    return [
        CheckRequest.model_validate(one.model_dump(exclude={"name"})).model_dump() for one in known
    ]


def read_check(
    kind: Annotated[Kind, Form()] = Kind.HTTP,
    what: Short = "",
    status: Annotated[int, Form(ge=100, le=599)] = 200,
    contains: Short = "",
    within_s: Annotated[int, Form(ge=1, le=600)] = 60,
) -> TypedCheck:
    return TypedCheck(kind, what, status, contains, within_s)
