"""Versions as image files for other hypervisors, and on disks to start from."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from notfallserver.server.cycle.boot_disks import Wish
from notfallserver.server.foreign.export import Kind
from notfallserver.server.media.block_devices import BlockDevice, Target, all_disks
from notfallserver.server.web.answers import JobAnswer
from notfallserver.server.web.api.actions import absolute_directory
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator

router = APIRouter(tags=["exports"])

Stamp = Annotated[str, Field(max_length=64)]
MOST_DISKS = 64


class ExportRequest(BaseModel):
    """``directory`` on the emergency server; ``version``: left out, the newest sound one;
    ``adapt``: to the hypervisor that the kind is for (raw, qcow2: QEMU/KVM; vmdk: VMware; vhdx:
    Hyper-V), else the disks are as they were."""

    model_config = ConfigDict(extra="forbid")

    directory: str = Field(min_length=1, max_length=4096)
    kind: Kind
    version: Stamp = ""
    adapt: bool = False


class TargetRequest(BaseModel):
    """``confirm`` repeats the disk's ``confirmation``; ``internal``: also if it can't be pulled
    out, or is a part of something that is not in use."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(min_length=1, max_length=4096)
    confirm: str = Field(max_length=200)
    internal: bool = False


class DiskExportRequest(BaseModel):
    """One target for each of the server's ``disks`` (numbers from 0; left out: all), in order."""

    model_config = ConfigDict(extra="forbid")

    targets: list[TargetRequest] = Field(min_length=1, max_length=MOST_DISKS)
    disks: list[Annotated[int, Field(ge=0, lt=MOST_DISKS)]] = Field(
        default=[], max_length=MOST_DISKS
    )
    version: Stamp = ""
    adapt: bool = False


class PartAnswer(BaseModel):
    name: str
    size: int
    filesystem: str
    label: str


class DiskAnswer(BaseModel):
    """A disk of the emergency server; ``busy``: why it may not be written, ``member``: of what it
    is a part."""

    path: str
    size: int
    sector: int
    model: str
    serial: str
    transport: str
    removable: bool
    table: str
    parts: list[PartAnswer]
    busy: str
    member: str
    confirmation: str

    @classmethod
    def of(cls, disk: BlockDevice) -> DiskAnswer:
        parts = [PartAnswer(**vars(one)) for one in disk.parts]
        told = {key: value for key, value in vars(disk).items() if key in cls.model_fields}
        return cls(**{**told, "parts": parts, "confirmation": disk.confirmation})


@router.post("/primaries/{name}/export", status_code=202)
def export(request: Request, name: Name, body: ExportRequest, who: Administrator) -> JobAnswer:
    """Write a version's disks as image files, with what another hypervisor must know."""
    house = house_of(request)
    row = house.catalogue.primaries.find(name)
    directory = absolute_directory(body.directory)
    exports = house.conductor.carry.exports
    job = exports.begin(row, directory, body.kind, body.version, body.adapt, who)
    return JobAnswer.of(job, row.name)


@router.get("/disks")
def list_disks(who: Administrator) -> list[DiskAnswer]:
    """The emergency server's disks, what is on them, and which may not be written over."""
    return [DiskAnswer.of(one) for one in all_disks()]


@router.post("/primaries/{name}/export/disk", status_code=202)
def export_disk(
    request: Request, name: Name, body: DiskExportRequest, who: Administrator
) -> JobAnswer:
    """Write a version onto disks from which a computer starts. What is on them is lost."""
    house = house_of(request)
    row = house.catalogue.primaries.find(name)
    targets = tuple(Target(**one.model_dump()) for one in body.targets)
    wish = Wish(body.version, targets, tuple(body.disks), body.adapt)
    return JobAnswer.of(house.conductor.carry.disks.begin(row, wish, who), row.name)
