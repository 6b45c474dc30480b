"""Seeds: first copies by removable disk."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from notfallserver.server.web.answers import JobAnswer
from notfallserver.server.web.api.actions import absolute_directory
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator

router = APIRouter(tags=["seeds"])


class ImportRequest(BaseModel):
    """``directory`` on the emergency server; ``code`` of an exported seed; ``primary`` where it
    has another UUID here."""

    model_config = ConfigDict(extra="forbid")

    directory: str = Field(min_length=1, max_length=4096)
    primary: str = Field(default="", max_length=80)
    code: str = Field(default="", max_length=200)


class ExportRequest(BaseModel):
    """``version``: left out, the newest sound one."""

    model_config = ConfigDict(extra="forbid")

    directory: str = Field(min_length=1, max_length=4096)
    version: str | None = Field(default=None, max_length=64)


class ExportAnswer(BaseModel):
    """``code`` is what the import needs; it is told only here."""

    job: JobAnswer
    code: str


@router.post("/seeds/import", status_code=202)
def import_seed(request: Request, body: ImportRequest, who: Administrator) -> JobAnswer:
    """Make a version of a seed."""
    house = house_of(request)
    directory = absolute_directory(body.directory)
    job = house.conductor.import_seed(directory, body.primary, body.code, who)
    return JobAnswer.of(job, house.catalogue.primaries.find(job.primary or "").name)


@router.post("/primaries/{name}/seed/export", status_code=202)
def export_seed(
    request: Request, name: Name, body: ExportRequest, who: Administrator
) -> ExportAnswer:
    """Write a version as a seed for another emergency server."""
    house = house_of(request)
    row = house.catalogue.primaries.find(name)
    directory = absolute_directory(body.directory)
    job, code = house.conductor.export_seed(row.uuid, directory, body.version, who)
    return ExportAnswer(job=JobAnswer.of(job, row.name), code=code)


@router.post("/primaries/{name}/seed/forget", status_code=204)
def forget_seed(request: Request, name: Name, who: Administrator) -> Response:
    """Don't wait for a finished seed any longer."""
    house = house_of(request)
    house.conductor.forget_seed(house.catalogue.primaries.find(name).uuid, who)
    return Response(status_code=204)
