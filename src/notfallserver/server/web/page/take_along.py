"""A copy to take along: files for another hypervisor, or a disk that a computer starts from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from pydantic import ValidationError

from notfallserver.server.foreign.export import Kind
from notfallserver.server.media.block_devices import all_disks
from notfallserver.server.web.answers import JobAnswer, version_time
from notfallserver.server.web.api.exports import (
    DiskAnswer,
    DiskExportRequest,
    ExportRequest,
    TargetRequest,
    export,
    export_disk,
)
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.page.show import go, show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator
from notfallserver.wire.errors import NotfallError

router = APIRouter(prefix="/p/{name}/take-along")

Stamp = Annotated[str, Form(max_length=64)]
Chosen = Annotated[str, Query(max_length=64)]
Long = Annotated[str, Form(max_length=4096)]
Several = Annotated[Sequence[str], Form(max_length=64)]
KINDS = ("export", "export_disk")


@router.get("")
def page(request: Request, name: Name, who: Administrator, version: Chosen = "") -> Response:
    return _show(request, name, version, None)


@router.get("/present")
def present(request: Request, name: Name, who: Administrator) -> Response:
    """What is under way."""
    return show(request, "parts/carrying.html", {"carrying": _under_way(request, name)})


@router.post("/image")
def image(
    request: Request,
    name: Name,
    who: Administrator,
    directory: Long = "",
    kind: Kind = Form(Kind.QCOW2),
    adapt: Annotated[bool, Form()] = False,
    version: Stamp = "",
) -> Response:
    try:
        body = ExportRequest(directory=directory.strip(), kind=kind, version=version, adapt=adapt)
        export(request, name, body, who)
    except ValidationError:
        return _show(request, name, version, _no_directory())
    except NotfallError as error:
        return _show(request, name, version, error)
    return go(request, f"/p/{name}/take-along?version={version}")


@router.post("/disk")
def disk(
    request: Request,
    name: Name,
    who: Administrator,
    path: Several = (),
    confirm: Several = (),
    adapt: Annotated[bool, Form()] = False,
    version: Stamp = "",
) -> Response:
    """One disk for each of the server's; the person has typed what each shows."""
    pairs = zip(path, [*confirm, *[""] * len(path)], strict=False)
    try:
        targets = [TargetRequest(path=one, confirm=said.strip()) for one, said in pairs]
        body = DiskExportRequest(targets=targets, version=version, adapt=adapt)
        export_disk(request, name, body, who)
    except ValidationError:
        none = NotfallError("disk-count", "A disk is missing.", "Choose one for each.")
        return _show(request, name, version, none)
    except NotfallError as error:
        return _show(request, name, version, error)
    return go(request, f"/p/{name}/take-along?version={version}")


def _no_directory() -> NotfallError:
    return NotfallError("bad-directory", "No directory is named.", "Give its absolute path.")


def _under_way(request: Request, name: str) -> list[JobAnswer]:
    house = house_of(request)
    row = house.catalogue.primaries.find(name)
    jobs = house.catalogue.jobs.unfinished(row.uuid)
    over = [one for one in house.catalogue.jobs.newest(row.uuid, limit=20) if one.finished]
    last = [one for one in over if one.kind in KINDS][:1]
    return [JobAnswer.of(one, row.name) for one in (*jobs, *last) if one.kind in KINDS]


def _show(request: Request, name: str, version: str, error: NotfallError | None) -> Response:
    house = house_of(request)
    row = house.catalogue.primaries.find(name)
    stamps = [one.stamp for one in house.conductor.versions(row.uuid)]
    stamp = version if version in stamps else next(iter(stamps), "")
    machine = row.machine
    disks = [DiskAnswer.of(one) for one in all_disks()]
    values = {
        "primary": row,
        "versions": [(one, version_time(one)) for one in stamps],
        "chosen": stamp,
        "kinds": [one.value for one in Kind],
        "count": len(machine.disks) if machine else 1,
        "disks": [one for one in disks if one.removable and not one.busy and not one.member],
        "others": [one for one in disks if not one.removable or one.busy or one.member],
        "carrying": _under_way(request, name),
        "error": error,
    }
    return show(request, "take_along.html", values, error.status if error else 200)
