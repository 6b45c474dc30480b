"""The emergency server itself: space, addresses, what runs stand-ins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response

from notfallserver.server.cycle.driver_store import Driver, DriverStore, drivers_dir
from notfallserver.server.health.judge import LITTLE, VERY_LITTLE
from notfallserver.server.web.api.system import status
from notfallserver.server.web.page.show import show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Person
from notfallserver.server.web.words.health import in_words
from notfallserver.server.web.words.situation import Light

router = APIRouter()


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


@dataclass(frozen=True)
class DriverSet:
    """``count`` packages; ``systems``: from which Windows on, each once."""

    name: str
    count: int
    systems: tuple[str, ...]


def sets_of(drivers: Sequence[Driver]) -> list[DriverSet]:
    found = []
    for name in sorted({one.name for one in drivers}):
        mine = [one for one in drivers if one.name == name]
        systems = sorted({system for one in mine for system in one.systems})
        found.append(DriverSet(name, len(mine), tuple(systems)))
    return found


@router.get("/server")
def server_page(request: Request, who: Person) -> Response:
    told = status(request, who)
    house = house_of(request)
    drivers = DriverStore(drivers_dir(house.settings)).list().drivers
    values = {
        "drivers": sets_of(drivers),
        "status": told,
        "space": Space(told.pool.size, told.pool.free),
        "findings": [in_words(one) for one in house.health.findings if one.key != "space"],
    }
    return show(request, "server.html", values)
