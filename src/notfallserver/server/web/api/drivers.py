"""The customer's drivers for Windows: what the emergency server has, and more."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from notfallserver.server.cycle.driver_store import Driver, DriverStore, Listed, drivers_dir
from notfallserver.server.web.api.actions import absolute_directory
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator, Person

router = APIRouter(tags=["drivers"])


class DriverAnswer(BaseModel):
    """``name`` is the set's, ``path`` the INF's in it; ``kind``: ``storage`` or ``network``;
    ``systems``: from which Windows on; ``hardware``: ids as Windows writes them; ``size`` in
    bytes."""

    name: str
    path: str
    kind: str
    maker: str
    version: str
    systems: list[str]
    hardware: list[str]
    size: int

    @classmethod
    def of(cls, driver: Driver) -> DriverAnswer:
        return cls(**{**vars(driver), "systems": list(driver.systems)})


class RefusedAnswer(BaseModel):
    path: str
    why: str


class DriversAnswer(BaseModel):
    """``directory``: where they lie; ``refused``: INFs that are no use, and why."""

    directory: str
    drivers: list[DriverAnswer]
    refused: list[RefusedAnswer]

    @classmethod
    def of(cls, store: DriverStore, listed: Listed) -> DriversAnswer:
        return cls(
            directory=str(store.root),
            drivers=[DriverAnswer.of(one) for one in listed.drivers],
            refused=[RefusedAnswer(path=path, why=why) for path, why in listed.refused],
        )


class AddRequest(BaseModel):
    """``path``: a maker's unpacked folder, or an ISO file, on the emergency server; ``name`` of the
    set, by default the folder's or the file's. A set of the same name is replaced."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(min_length=1, max_length=4096)
    name: str = Field(default="", max_length=63)


def _store(request: Request) -> DriverStore:
    return DriverStore(drivers_dir(house_of(request).settings))


@router.get("/drivers")
def list_drivers(request: Request, who: Person) -> DriversAnswer:
    """Which Windows and which hardware each serves."""
    store = _store(request)
    return DriversAnswer.of(store, store.list())


@router.post("/drivers", status_code=201)
def add_drivers(request: Request, body: AddRequest, who: Administrator) -> DriversAnswer:
    """Keep what is of use in a folder or an ISO; the next adaptation of a Windows may take it."""
    store = _store(request)
    added = store.add(absolute_directory(body.path), body.name)
    names = sorted({one.name for one in added.drivers})
    house_of(request).catalogue.journal.write(None, "drivers-added", who, ", ".join(names))
    return DriversAnswer.of(store, added)


@router.delete("/drivers/{name}", status_code=204)
def remove_drivers(request: Request, name: str, who: Administrator) -> Response:
    """Of images that were made with them nothing is taken away."""
    _store(request).remove(name)
    house_of(request).catalogue.journal.write(None, "drivers-removed", who, name)
    return Response(status_code=204)
