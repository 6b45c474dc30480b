"""Which files an image consists of. All must lie in the directory of the file that was named.

An image can name other files: what it is a difference to, and parts of its content. Whoever wrote
the image decides these names, so a name that leads elsewhere is refused, whatever is there; the
programs that read the image see no other files (:mod:`enclosure`).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from notfallserver.server.foreign.formats import Described, Format, Read, describe, is_part
from notfallserver.wire.errors import NotfallError

MOST_LAYERS = 32
MOST_BESIDE = 500
"""So many files beside an image are looked at."""
_PROTOCOL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_IMAGES = (".qcow2", ".vmdk", ".img", ".qcow", ".snap", ".raw")
_CHECKPOINTS = (".avhdx", ".avhd")


@dataclass(frozen=True)
class Mark:
    """By this it is seen that a file was replaced or written while it was read."""

    device: int
    inode: int
    size: int
    written_ns: int


@dataclass(frozen=True)
class Layer:
    """An image, what it is a difference to, and the other files that belong to it."""

    path: Path
    told: Described
    mark: Mark
    members: tuple[tuple[Path, Mark], ...] = ()
    data: Path | None = None
    backing: Layer | None = None

    def layers(self) -> Iterator[Layer]:
        """This one first."""
        one: Layer | None = self
        while one is not None:
            yield one
            one = one.backing

    def files(self) -> list[tuple[Path, Mark]]:
        """All files, each with how it was when it was looked at."""
        found = {}
        for one in self.layers():
            found[one.path] = one.mark
            found.update(one.members)
        return list(found.items())

    @property
    def written_ns(self) -> int:
        """When the newest of the files was written, in nanoseconds of the clock."""
        return max(mark.written_ns for _, mark in self.files())

    def require_unchanged(self) -> None:
        """Raise where a file is not as it was: what was read of it is of no single moment."""
        for path, mark in self.files():
            if _mark_of(path) != mark:
                raise NotfallError(
                    "image-changed",
                    f"{path} was written to while it was read.",
                    "Shut its machine down, or copy the image first; then import it again.",
                    status=409,
                )


def find_image(path: Path) -> Layer:
    """The image at ``path`` with all that belongs to it; refused unless all is there."""
    layer = _layer(_real(path), 0)
    _refuse_superseded(layer)
    return layer


def _layer(path: Path, depth: int) -> Layer:
    if depth >= MOST_LAYERS:
        raise NotfallError(
            "image-elsewhere",
            f"{path.name} is a difference to a difference, and so on, without an end.",
            "Merge the snapshots, then import the result.",
        )
    with _opened(path) as (size, read):
        told = describe(size, read)
    members = []
    for extent in told.extents:
        member = _beside(path, extent.name)
        members.append((member, _require_whole(member, extent.size)))
    data = _beside(path, told.data) if told.data else None
    if data is not None:
        members.append((data, _mark_of(data)))
    backing = _layer(_beside(path, told.backing), depth + 1) if told.backing else None
    return Layer(path, told, _mark_of(path), tuple(members), data, backing)


def _real(path: Path) -> Path:
    try:
        return path.resolve(strict=True)
    except OSError:
        raise NotfallError(
            "image-missing",
            f"There is no file {path} on the emergency server.",
            "Name it with its whole path there.",
            status=404,
        ) from None


def _beside(path: Path, name: str) -> Path:
    """The file that an image at ``path`` calls ``name``."""
    told = name.removeprefix("file:") if not name.startswith("file://") else name
    if not told or "\0" in told or _PROTOCOL.match(told):
        raise _elsewhere(path, name)
    try:
        found = (path.parent / told).resolve(strict=True)
    except OSError:
        shown = Path(told.replace("\\", "/")).name
        if Path(told).parent in (Path(), path.parent):
            raise NotfallError(
                "image-incomplete",
                f"{path.name} needs the file '{shown}', which does not lie beside it.",
                "Put all files of the disk into one directory.",
            ) from None
        raise _elsewhere(path, name) from None
    if found.parent != path.parent:
        raise _elsewhere(path, name)
    return found


def _elsewhere(path: Path, name: str) -> NotfallError:
    return NotfallError(
        "image-elsewhere",
        f"{path.name} names a file that does not lie beside it: '{name[:200]}'.",
        "Merge its snapshots into one image, or put all its files into one directory, under names "
        "without a path.",
    )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[int, Read]]:
    """Its size, and a way to read it; only of a regular file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        raise NotfallError(
            "image-missing",
            f"{path} can't be read: {error.strerror}.",
            "Name a file that lies on the emergency server.",
        ) from None
    try:
        told = os.fstat(handle)
        if not stat.S_ISREG(told.st_mode):
            raise NotfallError(
                "image-missing",
                f"{path} is no file.",
                "Name a file with an image, not a directory or a device.",
            )

        def read(offset: int, length: int) -> bytes:
            inside = 0 <= offset < told.st_size
            return os.pread(handle, length, offset) if inside else b""

        yield told.st_size, read
    finally:
        os.close(handle)


def _mark_of(path: Path) -> Mark:
    try:
        told = path.lstat()
    except OSError:
        return Mark(0, 0, 0, 0)
    return Mark(told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns)


def _require_whole(path: Path, size: int) -> Mark:
    with _opened(path) as (found, _):
        if found < size:
            raise NotfallError(
                "image-cut-short",
                f"{path.name} is cut short: it has {found} bytes of {size}.",
                "Copy or export it again.",
            )
    return _mark_of(path)


def _refuse_superseded(layer: Layer) -> None:
    """What a snapshot was made of holds the state of before it: nobody means that."""
    known = {path for path, _ in layer.files()}
    for other in sorted(layer.path.parent.iterdir())[:MOST_BESIDE]:
        if other in known or not other.is_file():
            continue
        checkpoint = other.suffix.lower() in _CHECKPOINTS
        if checkpoint and other.name.lower().startswith(f"{layer.path.stem.lower()}_"):
            raise _superseded(layer.path, other)
        if other.suffix.lower() not in _IMAGES:
            continue
        told = _described(other)
        if any(_is(layer.path, other, one.name) for one in told.extents):
            raise is_part(other.name)
        if _is(layer.path, other, told.backing):
            raise _superseded(layer.path, other)


def _described(other: Path) -> Described:
    try:
        with _opened(other) as (size, read):
            return describe(size, read)
    except NotfallError:
        return Described(Format.RAW)  # it is none of ours to judge


def _is(path: Path, other: Path, name: str) -> bool:
    """Whether what ``other`` calls so is the file at ``path``."""
    try:
        return bool(name) and _beside(other, name) == path
    except NotfallError:
        return False


def _superseded(path: Path, other: Path) -> NotfallError:
    return NotfallError(
        "image-superseded",
        f"{path.name} is older than {other.name}, which holds what was written since a snapshot.",
        f"Name {other.name} instead (of Hyper-V: delete the checkpoint first).",
        status=409,
    )


def option_tree(layer: Layer, where: Path) -> dict[str, object]:
    """The image in QEMU's words, so that it guesses nothing; ``where``: its files lie there."""
    told = layer.told
    file = {"driver": "file", "filename": str(where / layer.path.name)}
    tree: dict[str, object] = {"driver": str(told.format), "file": file}
    if told.format is Format.RAW:
        tree["size"] = told.size
    elif told.format is Format.VHD and told.size:
        tree["force_size_calc"] = "current_size"
    if layer.data is not None:
        tree["data-file"] = {"driver": "file", "filename": str(where / layer.data.name)}
    if told.format in (Format.QCOW2, Format.VMDK):
        tree["backing"] = option_tree(layer.backing, where) if layer.backing else None
    return tree
