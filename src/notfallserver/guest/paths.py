"""Paths inside a mounted guest, which may not lead out of it.

An image's symbolic links are made for the image as ``/``; followed from outside they would point
into the rescue system. :func:`inside` follows them as the guest would.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import List

from notfallserver.wire.errors import NotfallError

LINK_LIMIT = 40
TEXT_LIMIT = 4 << 20


def inside(root: Path, path: str) -> Path:
    """Where ``path`` of the guest lies for us; it need not exist."""
    waiting: List[str] = _parts(path)
    done: List[str] = []
    links = 0
    while waiting:
        part = waiting.pop(0)
        if part == "..":
            done = done[:-1]
            continue
        here = root.joinpath(*done, part)
        if not here.is_symlink():
            done.append(part)
            continue
        links += 1
        if links > LINK_LIMIT:
            raise NotfallError("bad-image", f"'{path}' in the image is a circle of links.", "")
        target = str(here.readlink())
        if target.startswith("/"):
            done = []
        waiting = _parts(target) + waiting
    return root.joinpath(*done)


def read_text(root: Path, path: str) -> str:
    """A text file of the guest; empty when it is absent, no file, or too long to be a setting."""
    here = inside(root, path)
    try:
        if not here.is_file() or here.stat().st_size > TEXT_LIMIT:
            return ""
        return here.read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def _parts(path: str) -> List[str]:
    return [one for one in PurePosixPath(path).parts if one not in ("/", ".")]
