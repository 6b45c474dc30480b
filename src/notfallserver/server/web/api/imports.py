"""Importing image files of servers on which no agent can run."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from notfallserver.server.cycle.imports import MOST_FILES, Order
from notfallserver.server.cycle.target_imports import TargetOrder
from notfallserver.server.foreign.machine import Wish
from notfallserver.server.web.answers import JobAnswer
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator
from notfallserver.wire.errors import NotfallError

router = APIRouter(tags=["imports"])

FilePath = Annotated[str, Field(min_length=1, max_length=4096)]
DiskName = Annotated[str, Field(min_length=1, max_length=40)]
Mac = Annotated[str, Field(max_length=40)]
Address = Annotated[str, Field(max_length=100)]
Port = Annotated[int, Field(ge=1, le=65535)]


class ImportRequest(BaseModel):
    """``files`` on the emergency server, whole paths, one for each disk in the machine's order; or
    ``code``, which the console of a machine shows that was started from the rescue medium, with
    ``disks``, their names there (left out: all that hold anything).

    ``name``: a new primary, or one without an agent, which gets a version more. What follows is
    what the images can't tell; left out, it is found in them, or as it was before. ``memory_mib``;
    ``addresses`` with prefix length, of the first card, or of another: ``MAC=ADDRESS``; ``ports``:
    which the machine serves; ``taken_at``: whose moment's state it is, by default when the newest
    file was written.
    """

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=63)
    files: list[FilePath] = Field(default=[], max_length=MOST_FILES)
    code: str = Field(default="", max_length=40)
    disks: list[DiskName] = Field(default=[], max_length=MOST_FILES)
    memory_mib: int = Field(default=0, ge=0, le=1 << 24)
    cpus: int = Field(default=0, ge=0, le=1024)
    firmware: str = Field(default="", max_length=8)
    macs: list[Mac] = Field(default=[], max_length=32)
    addresses: list[Address] = Field(default=[], max_length=64)
    gateway: str = Field(default="", max_length=80)
    ports: list[Port] = Field(default=[], max_length=64)
    taken_at: AwareDatetime | None = None

    def wish(self) -> Wish:
        return Wish(
            memory=self.memory_mib << 20,
            cpus=self.cpus,
            firmware=self.firmware,
            macs=tuple(self.macs),
            addresses=tuple(self.addresses),
            gateway=self.gateway,
            ports=tuple(self.ports),
        )

    def order(self) -> Order:
        return Order(self.name, tuple(self.files), self.wish(), self.taken_at)

    def target_order(self) -> TargetOrder:
        if self.files or self.taken_at:
            raise NotfallError(
                "bad-import",
                "Files and the code of a machine can't be given together.",
                "Give one of both.",
            )
        return TargetOrder(self.name, self.code, tuple(self.disks), self.wish())


@router.post("/imports", status_code=202)
def import_image(request: Request, body: ImportRequest, who: Administrator) -> JobAnswer:
    """Make a version of image files, or of a machine's disks; the primary is made by the first."""
    house = house_of(request)
    if body.code:
        job = house.conductor.target_imports.begin(body.target_order(), who)
    else:
        job = house.conductor.imports.begin(body.order(), who)
    return JobAnswer.of(job, house.catalogue.primaries.find(job.primary or "").name)
