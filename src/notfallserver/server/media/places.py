"""Where a set of media is written to or read from: a tape drive, files, or a named pipe."""

from __future__ import annotations

import os
import shutil
import stat
from enum import StrEnum
from pathlib import Path

from notfallserver.server.media.drive import Drive, TapeDrive
from notfallserver.server.media.reader import Label, read_label
from notfallserver.server.media.sinks import file_exists
from notfallserver.server.media.streams import FileStream, Stream, TapeStream
from notfallserver.wire.errors import NotfallError

_TAPES = 9
"""The major number of SCSI tapes."""
FOREIGN, UNREADABLE = "foreign", "unreadable"
"""What a person says to give up what lies on a medium that has no label of ours."""


class Kind(StrEnum):
    TAPE = "tape"
    PIPE = "pipe"
    DIRECTORY = "directory"
    FILE = "file"


def kind_of(path: Path) -> Kind:
    """What ``path`` is; a file need not exist, but its directory must."""
    if not path.is_absolute() or "\0" in str(path):
        raise _no_place(path, "it is no whole path")
    try:
        told = path.stat()
    except FileNotFoundError:
        if path.parent.is_dir() and path.name:
            return Kind.FILE
        raise _no_place(path, "there is no such directory") from None
    if stat.S_ISDIR(told.st_mode):
        return Kind.DIRECTORY
    if stat.S_ISFIFO(told.st_mode):
        return Kind.PIPE
    if stat.S_ISCHR(told.st_mode) and os.major(told.st_rdev) == _TAPES:
        return Kind.TAPE
    if stat.S_ISREG(told.st_mode):
        return Kind.FILE
    raise _no_place(path, "it is neither a tape drive nor a directory, file or named pipe")


def open_drive(path: Path, write: bool) -> Drive:
    return TapeDrive(path, write)


def open_stream(path: Path, kind: Kind) -> Stream:
    """A medium to read."""
    if kind is not Kind.TAPE:
        return FileStream(path)
    drive = open_drive(path, False)
    try:
        return TapeStream(drive)
    except OSError as error:
        drive.close()
        raise NotfallError(
            "tape-empty-drive",
            f"The tape in {path} can't be rewound: {error.strerror}.",
            "Insert one and wait until the drive has loaded it.",
            retry=True,
            status=409,
        ) from None


def label_of(path: Path, kind: Kind) -> Label | None:
    """Of a medium; None where there is none of ours."""
    stream = open_stream(path, kind)
    try:
        return read_label(stream)[0]
    finally:
        stream.close()


def refuse_valuable(drive: Drive, mine: tuple[str, int], overwrite: str) -> None:
    """Raise unless the tape may be written: it is empty, has a label but no set, is the very medium
    that is begun again (``mine``: set and number), or a person named what shall be given up."""
    stream = TapeStream(drive)
    label, anything = read_label(stream)
    if label is not None:
        if not label.set or (label.set, label.medium) == mine:
            return
        if overwrite and overwrite in (label.label, label.set):
            return
        raise NotfallError(
            "tape-holds-set",
            f"The tape is number {label.medium} of '{label.label}' ({label.set}), written at "
            f"{label.written_at}.",
            f"Insert another one. To give that up: --overwrite {label.set}",
            status=409,
        )
    word = UNREADABLE if stream.unread else FOREIGN
    if overwrite == word or not (anything or stream.unread):
        return
    what = "can't be read: it is new, or damaged" if stream.unread else "holds something else"
    raise NotfallError(
        f"tape-{word}",
        f"The tape {what}.",
        f"Insert another one. To write over what may be on it: --overwrite {word}",
        status=409,
    )


def file_for(path: Path, kind: Kind, label: str, number: int, mine: str) -> Path:
    """The file of a medium; what is there is refused, unless it is the very one begun again."""
    if kind is Kind.DIRECTORY:
        path = path / f"{label}-{number:03d}.tar"
    elif number > 1:
        path = path.with_name(f"{path.name}.{number:03d}")
    if path.is_symlink() or path.exists():
        known = label_of(path, Kind.FILE) if path.is_file() and not path.is_symlink() else None
        if known is None or (known.set, known.medium) != (mine, number):
            raise file_exists(path)
        path.unlink()
    return path


def free_at(path: Path) -> int:
    return shutil.disk_usage(path if path.is_dir() else path.parent).free


def media_in(directory: Path, of: str = "") -> list[tuple[Label, Path]]:
    """The media that lie in a directory as files, in their order."""
    found = []
    for path in directory.iterdir():
        if path.is_file() and not path.name.startswith("."):
            label = label_of(path, Kind.FILE)
            if label is not None and label.set and (not of or label.set == of):
                found.append((label, path))
    return sorted(found, key=lambda one: (one[0].set, one[0].medium))


def _no_place(path: Path, why: str) -> NotfallError:
    return NotfallError(
        "tape-no-place",
        f"'{str(path)[:200]}' can't be used: {why}.",
        "Name a tape drive (/dev/nst0), a directory, a new file or a named pipe.",
    )
