"""Where hives are made whole and changed: a folder on the Windows volume itself, gone afterwards.

A hive is replaced in three moves, so that an interruption at any instant loses nothing: the whole
new content is written beside it; that file gets the name that says it is complete; its content is
copied over the hive, which keeps its permissions, and the file is deleted. What an interrupted
predecessor left is finished first: a complete file is copied over again, any other one dropped.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from notfallserver.guest.windows.hive_logs import replay_logs
from notfallserver.guest.windows.places import CONFIG, find, logs_of
from notfallserver.wire.errors import NotfallError

FOLDER = "$notfall-adaptation"
_READY = ".ready"


@contextmanager
def workspace(root: Path) -> Iterator[Path]:
    """The folder on the volume mounted at ``root``."""
    folder = find(root, FOLDER)
    finish_predecessor(root)
    folder.mkdir(exist_ok=True)
    try:
        yield folder
    finally:
        _tidy(folder)


def finish_predecessor(root: Path) -> None:
    folder = find(root, FOLDER)
    if not folder.is_dir():
        return
    for ready in sorted(folder.glob(f"*{_READY}")):
        if ready.is_file() and not ready.is_symlink():
            _put_in_place(ready, find(root, f"{CONFIG}/{ready.name[: -len(_READY)]}"))
    _tidy(folder)


def whole_hive(root: Path, folder: Path, name: str) -> Path:
    """A copy of the hive with all that its logs hold."""
    source = find(root, f"{CONFIG}/{name}")
    if not source.is_file():
        raise NotfallError(
            "hive-damaged",
            f"The registry file {name} is missing in the image.",
            "Use an older version of this primary, and look at the disks of the original.",
        )
    room = os.statvfs(folder)
    if room.f_bavail * room.f_frsize < 2 * source.stat().st_size:
        raise NotfallError(
            "windows-full",
            f"There is too little room on the image's Windows drive to change the file {name}.",
            "Make some room on that drive of the primary, then replicate again.",
        )
    target = folder / name
    replay_logs(source, logs_of(source), target)
    return target


def replace_hive(root: Path, name: str, new: Path) -> None:
    """``new`` is a hive in the workspace, changed and closed; it becomes the image's."""
    with new.open("rb") as file:
        os.fsync(file.fileno())
    ready = new.with_name(name + _READY)
    new.rename(ready)
    _sync_folder(new.parent)
    _put_in_place(ready, find(root, f"{CONFIG}/{name}"))


def _put_in_place(ready: Path, target: Path) -> None:
    if not target.is_file():
        ready.unlink()  # it is of no hive
        return
    with ready.open("rb") as new, target.open("r+b") as old:
        shutil.copyfileobj(new, old, 1 << 20)
        old.truncate()
        old.flush()
        os.fsync(old.fileno())
    ready.unlink()


def _tidy(folder: Path) -> None:
    """Everything but what is complete and not yet in place."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.name.endswith(_READY):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
