"""One volume of an opened version: folders, files, links; no path leads out of it.

An image's links are made for the image as ``/``. Each part of a path is looked at by itself, and a
link is followed by its text, from the volume's own root: so the appliance is never asked for a path
that has a link in it. Paths are bytes with ``/`` between the parts and none around them.
"""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from enum import StrEnum

from notfallserver.server.cycle.browse.sftp import Attributes, Kind, SftpClient
from notfallserver.wire.errors import NotfallError

PATH_LIMIT = 4096
LINK_LIMIT = 40
DEPTH_LIMIT = 250
"""A tree that goes deeper is broken: folders that hold each other."""
ENTRIES_LIMIT = 50_000
"""A folder's entries beyond that are not shown; a name narrows them down."""
FOUND_LIMIT = 500
SEARCH_S, LIST_S = 10.0, 20.0


class Order(StrEnum):
    NAME = "name"
    SIZE = "size"  # largest first
    CHANGED = "changed"  # newest first


@dataclass(frozen=True)
class Wanted:
    """``name``: part of a name, or a pattern with ``*`` and ``?``; ``below``: also in the folders
    below; ``hidden``: with names that begin with a dot."""

    name: str = ""
    below: bool = False
    hidden: bool = False
    order: Order = Order.NAME
    first: int = 0
    count: int = 200


@dataclass(frozen=True)
class Entry:
    """Something in a folder; ``target`` is what a link says."""

    path: bytes
    attributes: Attributes
    target: bytes = b""

    @property
    def name(self) -> bytes:
        return self.path.rpartition(b"/")[2]

    @property
    def kind(self) -> Kind:
        return self.attributes.kind


@dataclass(frozen=True)
class Listing:
    """``entries`` are those asked for, of ``total``; ``hidden`` more have a dot in front.

    Not ``complete``: there are so many, or it took so long, that not all were looked at.
    """

    path: bytes
    entries: tuple[Entry, ...]
    total: int
    hidden: int
    complete: bool


class VolumeTree:
    """A volume below ``root``, a path of the appliance. ``threads`` are for whatever asks it."""

    def __init__(self, client: SftpClient, root: bytes, threads: Executor) -> None:
        self._client = client
        self._root = root
        self.threads = threads

    def resolve(self, path: bytes) -> Entry:
        """What ``path`` leads to when links are followed inside the volume."""
        if len(path) > PATH_LIMIT or b"\0" in path:
            raise _nothing()
        waiting = _parts(path)
        done: list[bytes] = []
        here = self._client.look(self._root)
        links = 0
        while waiting:
            part = waiting.pop(0)
            if here.kind is not Kind.FOLDER:
                raise _nothing()
            if part == b"..":
                done = done[:-1]
                continue
            found = self._client.look(self._at(b"/".join([*done, part])))
            if found.kind is not Kind.LINK:
                done.append(part)
                here = found
                continue
            links += 1
            target = self._client.target(self._at(b"/".join([*done, part])))
            if links > LINK_LIMIT or len(target) > PATH_LIMIT or len(waiting) > PATH_LIMIT:
                raise _nothing()
            if target.startswith(b"/"):
                done = []
            waiting = _parts(target) + waiting
            # what was looked at before a link is a folder, and so is all above it
        whole = b"/".join(done)
        return Entry(whole, self._client.look(self._at(whole)))

    def folder(self, path: bytes, wanted: Wanted) -> Listing:
        """Folders first, then files, links and others."""
        top = self._need(path, Kind.FOLDER)
        matches = matcher(wanted.name)
        until = time.monotonic() + (SEARCH_S if wanted.below else LIST_S)
        most = FOUND_LIMIT if wanted.below else ENTRIES_LIMIT
        found: list[Entry] = []
        hidden, complete = 0, True
        for one in self._search(top, wanted) if wanted.below else self._inside(top):
            if not wanted.hidden and one.name.startswith(b"."):
                hidden += 1
            elif matches(one.name):
                found.append(one)
            if len(found) >= most or time.monotonic() > until:
                complete = False
                break
        found.sort(key=_ORDERS[wanted.order])
        shown = found[wanted.first : wanted.first + wanted.count]
        return Listing(top.path, tuple(map(self._with_target, shown)), len(found), hidden, complete)

    def file(self, path: bytes) -> Entry:
        """A regular file; everything else is refused, before it is opened."""
        return self._need(path, Kind.FILE)

    def read(self, file: Entry, start: int, length: int) -> Generator[bytes, None, None]:
        """Exactly so many bytes of it."""
        return self._client.read(self._at(file.path), start, length)

    def top(self, path: bytes) -> Entry:
        """A folder."""
        return self._need(path, Kind.FOLDER)

    def inside(self, folder: Entry) -> list[Entry]:
        """All that is in a folder, in the order of the names; links with their target."""
        if folder.path.count(b"/") > DEPTH_LIMIT:
            raise NotfallError(
                "folder-too-deep", "The folders go too deep: this copy is damaged.", status=500
            )
        found = sorted(self._inside(folder), key=lambda one: natural(one.name))
        return [self._with_target(one) for one in found]

    def _inside(self, folder: Entry) -> Iterator[Entry]:
        lead = folder.path + b"/" if folder.path else b""
        for name, attributes in self._client.entries(self._at(folder.path)):
            yield Entry(lead + name, attributes)

    def _search(self, top: Entry, wanted: Wanted) -> Iterator[Entry]:
        """Near ones first. A folder that can't be read is passed over: the rest may have it."""
        waiting = [top]
        while waiting:
            folder = waiting.pop(0)
            try:
                for one in self._inside(folder):
                    yield one
                    seen = wanted.hidden or not one.name.startswith(b".")
                    if one.kind is Kind.FOLDER and seen and one.path.count(b"/") < DEPTH_LIMIT:
                        waiting.append(one)
            except NotfallError as error:
                if error.code == "files-lost":
                    raise

    def _with_target(self, one: Entry) -> Entry:
        if one.kind is not Kind.LINK:
            return one
        return Entry(one.path, one.attributes, self._client.target(self._at(one.path)))

    def _need(self, path: bytes, kind: Kind) -> Entry:
        found = self.resolve(path)
        if found.kind is not kind:
            text = "This is no folder." if kind is Kind.FOLDER else "This can't be copied out."
            raise NotfallError(f"no-{kind}", text, "Go back to the folder above it.", status=409)
        return found

    def _at(self, path: bytes) -> bytes:
        return self._root + b"/" + path if path else self._root


def matcher(name: str) -> Callable[[bytes], bool]:
    """Whether a name is meant, upper and lower case alike."""
    wanted = name.strip().casefold()
    if not wanted:
        return lambda one: True
    if "*" in wanted or "?" in wanted:
        pattern = re.compile(fnmatch.translate(wanted.replace("[", "[[]")))
        return lambda one: pattern.match(_folded(one)) is not None
    return lambda one: wanted in _folded(one)


def natural(name: bytes) -> list[str | int]:
    """As people sort: ``file 9`` before ``file 10``; words and numbers take turns."""
    parts = re.split("([0-9]+)", _folded(name))
    return [int(one) if at % 2 else one for at, one in enumerate(parts)]


def _folded(name: bytes) -> str:
    return name.decode("utf-8", "replace").casefold()


def _first(one: Entry) -> bool:
    return one.kind is not Kind.FOLDER


_ORDERS: dict[Order, Callable[[Entry], tuple[object, ...]]] = {
    Order.NAME: lambda one: (_first(one), natural(one.name), one.path),
    Order.SIZE: lambda one: (_first(one), -one.attributes.size, natural(one.name), one.path),
    Order.CHANGED: lambda one: (_first(one), -one.attributes.modified, natural(one.name), one.path),
}


def _parts(path: bytes) -> list[bytes]:
    return [one for one in path.split(b"/") if one not in (b"", b".")]


def _nothing() -> NotfallError:
    return NotfallError(
        "no-such-file", "This is not in the copy.", "Go back to the folder above it.", status=404
    )
