"""Puts a longer initramfs in the place of the old one, whatever room there is in /boot.

It is written beside the old one, read again as a whole, and then renamed. Where /boot has no room
for both, it is packed harder on the root filesystem and checked there, with a copy of the old one
beside it; only then is the old one overwritten. A failure before that leaves it as it was, a
failure after it puts it back.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Sequence, Set

from notfallserver.guest.cpio import Entry, extend_initramfs, read_initramfs
from notfallserver.guest.paths import inside
from notfallserver.wire.errors import NotfallError

ROOMY = "/var/tmp"
SPARE = 1 << 20
"""Bytes that stay free in /boot: its filesystem needs some of its own."""


def replace_initramfs(root: Path, image: Path, entries: Sequence[Entry]) -> None:
    """Add ``entries`` to ``image``; one of the same name takes the place of the old."""
    wanted = {one.name for one in entries}
    wanted |= {one.name for one in read_initramfs(image, lambda name: False)}
    more = sum(len(one.data) for one in entries)
    if room(image.parent) > image.stat().st_size + more + SPARE:
        part = image.with_name(f".{image.name}.notfall")
        try:
            _write(image, entries, part, wanted, hard=False)
            part.replace(image)
            return
        except (OSError, NotfallError):
            if room(image.parent) > SPARE:
                raise
            # there was less room than it seemed
        finally:
            part.unlink(missing_ok=True)
    _replace_in_place(root, image, entries, wanted)


def room(folder: Path) -> int:
    """Bytes that are free."""
    told = os.statvfs(folder)
    return told.f_bavail * told.f_frsize


def _replace_in_place(root: Path, image: Path, entries: Sequence[Entry], wanted: Set[str]) -> None:
    place = inside(root, ROOMY)
    if not place.is_dir() or same_filesystem(place, image):
        raise _full(image)
    part = place / f".{image.name}.notfall"
    old = place / f".{image.name}.notfall-old"
    try:
        _write(image, entries, part, wanted, hard=True)
        if part.stat().st_size - image.stat().st_size + SPARE > room(image.parent):
            raise _full(image)
        shutil.copyfile(image, old)
        _sync(old)
        try:
            overwrite(image, part)
        except OSError:
            overwrite(image, old)
            raise
    except OSError as error:
        raise _full(image, str(error)) from None
    finally:
        part.unlink(missing_ok=True)
        old.unlink(missing_ok=True)


def _write(image: Path, entries: Sequence[Entry], part: Path, wanted: Set[str], hard: bool) -> None:
    """What was written is read again as a whole before it takes the old one's place."""
    extend_initramfs(image, entries, part, hard)
    if {one.name for one in read_initramfs(part, lambda name: False)} != wanted:
        raise NotfallError("bad-initramfs", f"{image.name} was not packed completely.", "")
    part.chmod(image.stat().st_mode & 0o7777)
    _sync(part)


def same_filesystem(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev


def overwrite(image: Path, source: Path) -> None:
    """The content of ``source``, in the place that ``image`` has already."""
    with source.open("rb") as content, image.open("r+b") as target:
        shutil.copyfileobj(content, target, 1 << 20)
        target.truncate()
        os.fsync(target.fileno())


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _full(image: Path, why: str = "") -> NotfallError:
    return NotfallError(
        "boot-full",
        f"There is not enough room in /boot of the image for a longer {image.name}"
        + (f" ({why})." if why else "."),
        "Remove old kernels on the primary (apt autoremove --purge), and replicate again.",
    )
