"""Files of a copy: open it, look through its folders, download."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from notfallserver.server.cycle.browse.names import shown
from notfallserver.server.cycle.browse.sftp import Kind
from notfallserver.server.cycle.browse.shelf import MOST_OPEN
from notfallserver.server.cycle.browse.tree import Order, Wanted
from notfallserver.server.vm.appliance import ShownVolume
from notfallserver.server.web.answers import version_time
from notfallserver.server.web.api.files import (
    PAGE,
    ArchiveForm,
    Asked,
    FolderAnswer,
    PathText,
    Stamp,
    VolumeName,
    close_files,
    files_answer,
    open_files,
    send_folder,
    shelf_of,
)
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.page.show import go, show, speech_of
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Operator
from notfallserver.server.web.sending import apart
from notfallserver.server.web.words.paths import crumbs, token
from notfallserver.wire.errors import NotfallError

router = APIRouter(prefix="/p/{name}/files/{stamp}")


@router.get("")
def files_page(request: Request, name: Name, stamp: Stamp, who: Operator) -> Response:
    return show(request, "files.html", _present(request, name, stamp))


@router.get("/present")
def present(request: Request, name: Name, stamp: Stamp, who: Operator) -> Response:
    """The part of the page that changes."""
    return show(request, "parts/files.html", _present(request, name, stamp))


@router.post("/open")
def open_copy(request: Request, name: Name, stamp: Stamp, who: Operator) -> Response:
    try:
        open_files(request, name, stamp, who)
    except NotfallError as error:
        if error.code != "too-many-open":
            raise
    return go(request, f"/p/{name}/files/{stamp}")  # which says what is open


@router.post("/close")
def close_copy(request: Request, name: Name, stamp: Stamp, who: Operator) -> Response:
    close_files(request, name, stamp, who)
    return go(request, f"/p/{name}/files/{stamp}")


@router.get("/folder")
async def folder(
    request: Request,
    name: Name,
    stamp: Stamp,
    who: Operator,
    volume: VolumeName,
    path: PathText = "/",
    contains: Annotated[str, Query(max_length=255)] = "",
    below: bool = False,
    hidden: bool = False,
    order: Order = Order.NAME,
    first: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> Response:
    """A folder; where the copy was closed meanwhile, the page that opens it again."""
    wanted = Wanted(contains, below, hidden, order, first, PAGE)
    try:
        asked = await run_in_threadpool(Asked, request, name, stamp, who, volume, path)
        return await _folder(request, asked, wanted)
    except NotfallError as error:
        if error.code in ("files-closed", "files-lost"):
            return go(request, f"/p/{name}/files/{stamp}")
        raise


async def _folder(request: Request, asked: Asked, wanted: Wanted) -> Response:
    """A link to a file leads to the folder that the file is in."""
    tree = asked.tree
    place = await apart(tree.threads, tree.resolve, asked.path)
    if place.kind is not Kind.FOLDER:
        inside = {"volume": asked.volume, "path": token(place.path.rpartition(b"/")[0])}
        narrowed = {**inside, "contains": shown(place.name), "hidden": "true"}
        return RedirectResponse(f"{request.url.path}?{urlencode(narrowed)}", 303)
    found = await apart(tree.threads, tree.folder, place.path, wanted)
    first = wanted.first
    values = {
        "asked": asked,
        "volume": _volume(asked),
        "taken_at": version_time(asked.stamp),
        "folder": FolderAnswer.of(found),
        "crumbs": crumbs(found.path),
        "wanted": wanted,
        "next": first + PAGE if found.total > first + PAGE else None,
        "previous": max(0, first - PAGE) if first else None,
    }
    return await run_in_threadpool(show, request, "folder.html", values)


@router.get("/archive")
async def archive(
    request: Request, asked: Annotated[Asked, Depends()], form: ArchiveForm = ArchiveForm.ZIP
) -> Response:
    return await send_folder(asked, form, speech_of(request).say)


def _volume(asked: Asked) -> ShownVolume:
    """The volume that is looked at."""
    found = asked.shelf.showing(asked.primary.uuid, asked.stamp)
    named = (one for one in found.volumes if one.name == asked.volume) if found else iter(())
    return next(named, ShownVolume(asked.volume))


def _present(request: Request, name: str, stamp: str) -> dict[str, object]:
    catalogue = house_of(request).catalogue
    primary = catalogue.primaries.find(name)
    names = {one.uuid: one.name for one in catalogue.primaries.all()}
    others = [one for one in shelf_of(request).all() if one.primary in names]
    return {
        "primary": primary,
        "stamp": stamp,
        "taken_at": version_time(stamp),
        "files": files_answer(request, primary.uuid, stamp),
        "full": len(others) >= MOST_OPEN,
        "others": [(names[one.primary], one.stamp, version_time(one.stamp)) for one in others],
    }
