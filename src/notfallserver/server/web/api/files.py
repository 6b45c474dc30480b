"""Files of a version: open it, list a folder, copy a file or a folder out of it.

Opening starts an isolated machine and takes some seconds; all look at the same one then. Paths are
written as in a URL, ``/srv/a%20b``, because a name need not be text; answers have them ready.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from notfallserver.server.cycle.browse.archive import tar_pieces, zip_pieces
from notfallserver.server.cycle.browse.names import shown
from notfallserver.server.cycle.browse.sftp import Kind
from notfallserver.server.cycle.browse.shelf import Shelf
from notfallserver.server.cycle.browse.tree import Entry, Listing, Order, VolumeTree, Wanted
from notfallserver.server.vm.appliance import ShownVolume
from notfallserver.server.web.answers import ErrorAnswer
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Operator
from notfallserver.server.web.sending import apart, asked_part, begin_transfer
from notfallserver.server.web.words.paths import token, untoken

router = APIRouter(tags=["files"], prefix="/primaries/{name}/versions/{stamp}/files")

Stamp = Annotated[str, Path(max_length=64, description="A version's stamp")]
VolumeName = Annotated[str, Query(max_length=260, description="A volume's name")]
PathText = Annotated[str, Query(max_length=3 * 4096, description="As in a URL, / is the top")]
PAGE = 200


class ArchiveForm(StrEnum):
    ZIP = "zip"
    TAR = "tar"


class VolumeAnswer(BaseModel):
    """``mount``: where the primary's system has it; ``size`` in bytes; ``disk`` counts from 0."""

    name: str
    mount: str
    label: str
    filesystem: str
    size: int
    disk: int
    partition: int

    @classmethod
    def of(cls, volume: ShownVolume) -> VolumeAnswer:
        return cls.model_validate(vars(volume))


class FilesAnswer(BaseModel):
    """``phase`` is closed, cloning, starting, open or failed; ``notes`` are what can't be shown."""

    version: str
    phase: str
    volumes: list[VolumeAnswer] = []
    notes: list[str] = []
    error: ErrorAnswer | None = None


class FileEntry(BaseModel):
    """``path`` is for the next request, ``name`` and the whole ``place`` are for people.

    ``size`` in bytes; ``target`` is what a link says.
    """

    name: str
    place: str
    path: str
    kind: Kind
    size: int
    modified: datetime
    target: str

    @classmethod
    def of(cls, one: Entry) -> FileEntry:
        return cls(
            name=shown(one.name),
            place="/" + shown(one.path),
            path=token(one.path),
            kind=one.kind,
            size=one.attributes.size,
            modified=datetime.fromtimestamp(one.attributes.modified, UTC),
            target=shown(one.target),
        )


class FolderAnswer(BaseModel):
    """``total`` entries match; ``hidden`` more begin with a dot.

    Not ``complete``: there are so many, or it took so long, that not all were looked at.
    """

    path: str
    entries: list[FileEntry]
    total: int
    hidden: int
    complete: bool

    @classmethod
    def of(cls, found: Listing) -> FolderAnswer:
        return cls(
            path=token(found.path),
            entries=[FileEntry.of(one) for one in found.entries],
            total=found.total,
            hidden=found.hidden,
            complete=found.complete,
        )


class Asked:
    """What a request is about: a path on a volume of an open version."""

    def __init__(
        self,
        request: Request,
        name: Name,
        stamp: Stamp,
        who: Operator,
        volume: VolumeName,
        path: PathText = "/",
    ) -> None:
        self.shelf = shelf_of(request)
        self.primary = house_of(request).catalogue.primaries.find(name)
        self.stamp, self.volume, self.who = stamp, volume, who
        self.path = untoken(path)
        self.tree = self.shelf.volume(self.primary.uuid, stamp, volume, who)

    async def note(self, path: bytes, again: bool = False) -> None:
        """Journal that it is copied out."""
        told = (self.primary.uuid, self.stamp, self.volume, path, self.who, again)
        await run_in_threadpool(self.shelf.note_copied, *told)


@router.get("")
def show_files(request: Request, name: Name, stamp: Stamp, who: Operator) -> FilesAnswer:
    """How far the version is open."""
    primary = house_of(request).catalogue.primaries.find(name)
    return files_answer(request, primary.uuid, stamp)


@router.post("", status_code=202)
def open_files(request: Request, name: Name, stamp: Stamp, who: Operator) -> FilesAnswer:
    """Begin to open it; it is closed when nobody has looked for ten minutes."""
    primary = house_of(request).catalogue.primaries.find(name)
    shelf_of(request).open(primary.uuid, stamp, who)
    return files_answer(request, primary.uuid, stamp)


@router.delete("", status_code=204)
def close_files(request: Request, name: Name, stamp: Stamp, who: Operator) -> Response:
    primary = house_of(request).catalogue.primaries.find(name)
    shelf_of(request).close(primary.uuid, stamp)
    return Response(status_code=204)


@router.get("/folder")
async def list_folder(
    asked: Annotated[Asked, Depends()],
    contains: Annotated[str, Query(max_length=255)] = "",
    below: bool = False,
    hidden: bool = False,
    order: Order = Order.NAME,
    first: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    count: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> FolderAnswer:
    """Folders first. ``contains``: part of the name; ``below``: also in the folders below."""
    wanted = Wanted(contains, below, hidden, order, first, count)
    return FolderAnswer.of(await apart(asked.tree.threads, asked.tree.folder, asked.path, wanted))


@router.get("/content", response_class=Response)
async def copy_file(request: Request, asked: Annotated[Asked, Depends()]) -> Response:
    """One file; goes on in its middle where a browser asks for that."""
    tree = asked.tree
    file = await apart(tree.threads, tree.file, asked.path)
    attributes = file.attributes
    mark = f'"{asked.stamp}-{attributes.modified:x}-{attributes.size:x}"'
    wish = request.headers.get("range", "")
    if request.headers.get("if-range", mark) != mark:
        wish = ""
    part = asked_part(wish, attributes.size)
    await asked.note(file.path, again=part.start > 0)
    return await begin_transfer(
        tree.read(file, part.start, part.length),
        tree.threads,
        shown(file.name),
        206 if part.partial else 200,
        {**part.headers(), "ETag": mark},
    )


@router.get("/archive", response_class=Response)
async def copy_folder(
    asked: Annotated[Asked, Depends()], form: ArchiveForm = ArchiveForm.ZIP
) -> Response:
    """A folder with all below it."""
    return await send_folder(asked, form)


async def send_folder(asked: Asked, form: ArchiveForm, say: Callable[[str], str] = str) -> Response:
    """``say`` translates the list of what could not be taken along."""
    tree: VolumeTree = asked.tree
    top = await apart(tree.threads, tree.top, asked.path)
    await asked.note(top.path)
    pack = zip_pieces if form is ArchiveForm.ZIP else tar_pieces
    name = shown(top.name) or f"{asked.primary.name} {asked.volume}"
    return await begin_transfer(pack(tree, top, say), tree.threads, f"{name}.{form}")


def shelf_of(request: Request) -> Shelf:
    return house_of(request).conductor.shelf


def files_answer(request: Request, primary: str, stamp: str) -> FilesAnswer:
    """How far a version is open."""
    found = shelf_of(request).showing(primary, stamp)
    if found is None:
        return FilesAnswer(version=stamp, phase="closed")
    return FilesAnswer(
        version=stamp,
        phase=found.phase,
        volumes=[VolumeAnswer.of(one) for one in found.volumes],
        notes=list(found.notes),
        error=ErrorAnswer.model_validate(found.error.to_json()) if found.error else None,
    )
