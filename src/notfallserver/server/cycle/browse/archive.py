"""A folder as one stream: zip, which everybody can open, or tar, which keeps links and owners.

Nothing is written before it is sent. What can't be taken along (links in a zip, devices, what can't
be read at all) is told in a list at the end. A file that turns out unreadable in its middle raises:
the transfer breaks, because a file that is short without a word is worse than none.
"""

from __future__ import annotations

import io
import re
import tarfile
import time
import zipfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

from notfallserver.server.cycle.browse.names import shown
from notfallserver.server.cycle.browse.sftp import Kind
from notfallserver.server.cycle.browse.tree import Entry, VolumeTree
from notfallserver.wire.errors import NotfallError

QUICK = 1
"""zlib's level: the network is to be the slow part."""
LINK = "a link to another place"
OTHER = "a device, a pipe or a socket"
UNREADABLE = "can't be read in this copy"
RENAMED = "is called here"
LIST = "not in this archive.txt"
TEXTS = (LINK, OTHER, UNREADABLE, RENAMED, LIST)
_FOREIGN = re.compile(r'[\x00-\x1f\x7f"*:<>?\\|\ufffd]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?$", re.IGNORECASE)
_FIRST_YEAR, _LAST_YEAR = 1980, 2107


@dataclass
class Remarks:
    """What is told at the end."""

    say: Callable[[str], str]
    lines: list[str] = field(default_factory=list)

    def add(self, path: bytes, why: str, detail: str = "") -> None:
        self.lines.append(f"{shown(path)}: {self.say(why)} {detail}".rstrip() + "\r\n")

    def text(self) -> bytes:
        return "".join(self.lines).encode()


@dataclass(frozen=True)
class _Item:
    """Something for the archive; of a file the first bytes were read already."""

    entry: Entry
    content: Iterator[bytes]


def zip_pieces(
    tree: VolumeTree, top: Entry, say: Callable[[str], str]
) -> Generator[bytes, None, None]:
    """The folder as zip; names are made fit for Windows."""
    sink, remarks = _Sink(), Remarks(say)
    names = _Names(len(top.path) + 1 if top.path else 0)
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for item in _items(tree, top, remarks):
            one = item.entry
            if one.kind is Kind.LINK:
                remarks.add(one.path, LINK, shown(one.target))
                continue
            name = names.fit(one.path)
            if name.rpartition("/")[2].encode() != one.name:
                remarks.add(one.path, RENAMED, name)
            info = _zip_info(name, one)
            if one.kind is Kind.FOLDER:
                archive.writestr(info, b"")
                yield sink.take()
                continue
            with archive.open(info, "w") as file:
                for piece in item.content:
                    file.write(piece)
                    yield sink.take()
        if remarks.lines:
            info = zipfile.ZipInfo(names.fit_new(say(LIST)), time.localtime()[:6])
            archive.writestr(info, remarks.text())
    yield sink.take()


def tar_pieces(
    tree: VolumeTree, top: Entry, say: Callable[[str], str]
) -> Generator[bytes, None, None]:
    """The folder as tar, with links, owners and names as they are."""
    remarks = Remarks(say)
    lead = len(top.path) + 1 if top.path else 0
    for item in _items(tree, top, remarks):
        one = item.entry
        info = tarfile.TarInfo(one.path[lead:].decode("utf-8", "surrogateescape"))
        info.type = _TAR_TYPES[one.kind]
        info.linkname = one.target.decode("utf-8", "surrogateescape")
        info.size = one.attributes.size if one.kind is Kind.FILE else 0
        info.mode, info.mtime = one.attributes.mode, one.attributes.modified
        info.uid, info.gid = one.attributes.owner, one.attributes.group
        yield _tar_header(info)
        yield from item.content
        yield bytes(-info.size % tarfile.BLOCKSIZE)
    if remarks.lines:
        text = remarks.text()
        info = tarfile.TarInfo(say(LIST))
        info.size, info.mtime = len(text), int(time.time())
        yield _tar_header(info) + text + bytes(-len(text) % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _items(tree: VolumeTree, top: Entry, remarks: Remarks) -> Iterator[_Item]:
    """All below ``top``, each folder before what it holds."""
    waiting = tree.inside(top)[::-1]
    while waiting:
        one = waiting.pop()
        if one.kind is Kind.OTHER:
            remarks.add(one.path, OTHER)
        elif one.kind is Kind.FILE:
            content = _begun(tree.read(one, 0, one.attributes.size), one, remarks)
            if content is not None:
                yield _Item(one, content)
        else:
            yield _Item(one, iter(()))
        if one.kind is Kind.FOLDER:
            try:
                waiting += tree.inside(one)[::-1]
            except NotfallError as error:
                _forgive(error)
                remarks.add(one.path, UNREADABLE)


def _begun(pieces: Iterator[bytes], one: Entry, remarks: Remarks) -> Iterator[bytes] | None:
    """The same with its first piece read; None for a file of which nothing can be read."""
    try:
        first = next(pieces, b"")
    except NotfallError as error:
        _forgive(error)
        remarks.add(one.path, UNREADABLE)
        return None
    return _chain(first, pieces)


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _forgive(error: NotfallError) -> None:
    """What can't be read is told in the list; that nobody answers any more ends the transfer."""
    if error.code not in ("file-unreadable", "no-such-file"):
        raise error


def _zip_info(name: str, one: Entry) -> zipfile.ZipInfo:
    moment = time.localtime(one.attributes.modified)[:6]
    if not _FIRST_YEAR <= moment[0] <= _LAST_YEAR:
        moment = (_FIRST_YEAR, 1, 1, 0, 0, 0)
    folder = one.kind is Kind.FOLDER
    info = zipfile.ZipInfo(name + "/" if folder else name, moment)
    info.external_attr = (one.attributes.mode & 0o777 | (0o40000 if folder else 0o100000)) << 16
    info.external_attr |= 0x10 if folder else 0
    if not folder:
        info.file_size = one.attributes.size  # decides whether the form for large files is needed
        info.compress_type = zipfile.ZIP_DEFLATED
        info._compresslevel = QUICK  # type: ignore[attr-defined]  # public since 3.13 only
    return info


_TAR_TYPES = {Kind.FILE: tarfile.REGTYPE, Kind.FOLDER: tarfile.DIRTYPE, Kind.LINK: tarfile.SYMTYPE}


def _tar_header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


class _Names:
    """Names in a zip: such that every system can make the file, and none twice."""

    def __init__(self, lead: int) -> None:
        self._lead = lead
        self._folders: dict[bytes, str] = {b"": ""}
        self._taken: set[str] = set()

    def fit(self, path: bytes) -> str:
        """For ``path``; the folder it lies in was asked for before."""
        inside, _, name = path[self._lead :].rpartition(b"/")
        lead = self._folders[inside]
        told = self._new(lead, fit_name(name.decode("utf-8", "replace")))
        self._folders[path[self._lead :]] = told + "/"
        return told

    def fit_new(self, name: str) -> str:
        return self._new("", name)

    def _new(self, lead: str, name: str) -> str:
        told, number = lead + name, 1
        while told.casefold() in self._taken:
            number += 1
            stem, dot, kind = name.rpartition(".")
            told = lead + (f"{stem} ({number}).{kind}" if dot and stem else f"{name} ({number})")
        self._taken.add(told.casefold())
        return told


def fit_name(name: str) -> str:
    """A name that Windows can make, as near to ``name`` as possible."""
    told = _FOREIGN.sub("_", name)
    if told.endswith((".", " ")):
        told = told[:-1] + "_"
    return f"_{told}" if _RESERVED.match(told) else told


class _Sink(io.RawIOBase):
    """Takes what the archive writes until somebody comes for it; it can't go back."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, piece: object) -> int:
        taken = bytes(piece)  # type: ignore[call-overload]
        self._pieces.append(taken)
        return len(taken)

    def take(self) -> bytes:
        whole = b"".join(self._pieces)
        self._pieces.clear()
        return whole
