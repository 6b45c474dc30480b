"""Adding a server on which no agent can run, or a newer image of it: a form."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from pydantic import ValidationError

from notfallserver.server.web.api.imports import ImportRequest, import_image
from notfallserver.server.web.page.show import go, show
from notfallserver.server.web.people import Administrator
from notfallserver.wire.errors import NotfallError

router = APIRouter()
Short = Annotated[str, Form(max_length=80)]
Long = Annotated[str, Form(max_length=16384)]
Known = Annotated[str, Query(max_length=63)]


@dataclass(frozen=True)
class TypedImport:
    """As it stands in the form; several files, cards or addresses are in lines of their own."""

    name: str = ""
    files: str = ""
    code: str = ""
    memory_gib: str = ""
    cpus: str = ""
    firmware: str = ""
    macs: str = ""
    addresses: str = ""

    def request(self) -> ImportRequest:
        try:
            return ImportRequest(
                name=self.name.strip(),
                files=_lines(self.files),
                code=self.code.strip(),
                memory_mib=round(float(self.memory_gib.replace(",", ".") or 0) * 1024),
                cpus=int(self.cpus or 0),
                firmware=self.firmware,
                macs=_words(self.macs),
                addresses=_words(self.addresses),
            )
        except (ValidationError, ValueError, OverflowError):
            raise NotfallError(
                "bad-import", "Something in the form is missing or is no number.", "Look at it."
            ) from None


def _lines(text: str) -> list[str]:
    return [one.strip() for one in text.splitlines() if one.strip()]


def _words(text: str) -> list[str]:
    return [one for one in re.split(r"[\s,;]+", text) if one]


@router.get("/add/import")
def form(request: Request, who: Administrator, name: Known = "") -> Response:
    """``name``: of which a newer image shall be imported."""
    return _show(request, TypedImport(name=name), None)


@router.post("/add/import")
def begin(
    request: Request,
    who: Administrator,
    name: Short = "",
    files: Long = "",
    code: Short = "",
    memory_gib: Short = "",
    cpus: Short = "",
    firmware: Short = "",
    macs: Long = "",
    addresses: Long = "",
) -> Response:
    typed = TypedImport(name, files, code, memory_gib, cpus, firmware, macs, addresses)
    try:
        job = import_image(request, typed.request(), who)
    except NotfallError as error:
        return _show(request, typed, error)
    return go(request, f"/add/follow?name={job.name}")


def _show(request: Request, typed: TypedImport, error: NotfallError | None) -> Response:
    values = {"typed": asdict(typed), "error": error}
    return show(request, "import.html", values, error.status if error else 200)
