"""The emergency server itself: space, addresses, what runs stand-ins."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response

from notfallserver.server.web.api.system import status
from notfallserver.server.web.page.show import show
from notfallserver.server.web.people import Person
from notfallserver.server.web.words.situation import Light

router = APIRouter()
LITTLE, VERY_LITTLE = 0.15, 0.05
"""Free share of the pool below which it is told, and below which it is an alarm."""


@dataclass(frozen=True)
class Space:
    """The pool's space in bytes, and how it looks."""

    size: int
    free: int

    @property
    def used(self) -> int:
        return self.size - self.free

    @property
    def light(self) -> Light:
        share = self.free / self.size if self.size else 0
        return Light.BAD if share < VERY_LITTLE else Light.WARN if share < LITTLE else Light.GOOD


@router.get("/server")
def server_page(request: Request, who: Person) -> Response:
    told = status(request, who)
    return show(
        request, "server.html", {"status": told, "space": Space(told.pool.size, told.pool.free)}
    )
