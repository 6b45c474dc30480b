"""Media that are written: a member is on them whole, or not at all.

What a sink wrote can be proved afterwards: it knows length and SHA-256 of all members (without the
archive's end and what fills the last record).
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from notfallserver.server.host.files import sync_path
from notfallserver.server.media.archive import END
from notfallserver.server.media.drive import RECORD, Drive
from notfallserver.wire.errors import NotfallError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Sink(Protocol):
    """``length`` bytes of members so far."""

    length: int

    def add(self, parts: Sequence[bytes]) -> bool:
        """False where the medium is full; then nothing of this member is on it."""
        ...

    def finish(self) -> None:
        """The archive ends here; all is on the medium when this returns."""
        ...

    def abandon(self) -> None:
        """Nothing more is written; what is there is worth nothing."""
        ...

    def hexdigest(self) -> str: ...


class _Counting:
    def __init__(self) -> None:
        self.length = 0
        self._digest = hashlib.sha256()

    def _count(self, parts: Sequence[bytes]) -> None:
        for one in parts:
            self._digest.update(one)
            self.length += len(one)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def _filler(length: int) -> bytes:
    """The archive's end, up to whole records."""
    return END + bytes(-(length + len(END)) % RECORD)


class FileSink(_Counting):
    """A file of at most ``limit`` bytes (0: as long as there is room), under an unfinished name
    until it is whole."""

    def __init__(self, path: Path, limit: int = 0) -> None:
        super().__init__()
        self.path, self._limit = path, limit
        self.unfinished = path.with_name(f".{path.name}.part")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self._handle = os.open(self.unfinished, flags, 0o600)

    def add(self, parts: Sequence[bytes]) -> bool:
        size = sum(len(one) for one in parts)
        if self._limit and self.length + size + RECORD > self._limit:
            return False
        try:
            for one in parts:
                _write_all(self._handle, one)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            os.ftruncate(self._handle, self.length)
            os.lseek(self._handle, self.length, os.SEEK_SET)
            return False
        self._count(parts)
        return True

    def finish(self) -> None:
        try:
            _write_all(self._handle, _filler(self.length))
        except OSError as error:
            if error.errno not in _FULL:
                raise
            os.ftruncate(self._handle, self.length)  # tar needs no end where the file ends
        os.fsync(self._handle)
        self._close()
        try:  # not over a file that came meanwhile
            os.link(self.unfinished, self.path)
        except FileExistsError:
            raise file_exists(self.path) from None
        except OSError:  # FAT and others know no second name
            if self.path.exists():
                raise file_exists(self.path) from None
            self.unfinished.rename(self.path)
        else:
            self.unfinished.unlink()
        sync_path(self.path.parent)

    def abandon(self) -> None:
        self._close()
        self.unfinished.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


class PipeSink(_Counting):
    """Whatever reads a named pipe; what went in can't be taken back, so sizes are asked before."""

    def __init__(self, path: Path, limit: int = 0) -> None:
        super().__init__()
        self._limit = limit
        self._handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(self._handle, True)

    def add(self, parts: Sequence[bytes]) -> bool:
        size = sum(len(one) for one in parts)
        if self._limit and self.length + size + RECORD > self._limit:
            return False
        try:
            for one in parts:
                _write_all(self._handle, one)
        except BrokenPipeError:
            raise NotfallError(
                "pipe-broken",
                "The program at the other end of the pipe has ended.",
                "Start it again and write anew.",
                retry=True,
            ) from None
        self._count(parts)
        return True

    def finish(self) -> None:
        _write_all(self._handle, _filler(self.length))
        self.abandon()

    def abandon(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


class TapeSink(_Counting):
    """A rewound tape. Where its end comes within a member, it goes back to where that began."""

    def __init__(self, drive: Drive) -> None:
        super().__init__()
        self._drive = drive
        self._rest = b""
        self._lost = False

    def add(self, parts: Sequence[bytes]) -> bool:
        kept, records = self._rest, 0
        pending = bytearray(kept)
        try:
            for one in parts:
                pending += one
                at = 0
                while len(pending) - at >= RECORD:
                    self._drive.write(bytes(pending[at : at + RECORD]))
                    records += 1
                    at += RECORD
                del pending[:at]
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self._go_back(records, kept)
            return False
        self._rest = bytes(pending)
        self._count(parts)
        return True

    def _go_back(self, records: int, kept: bytes) -> None:
        try:
            if records:
                self._drive.back(records)
            self._rest = kept
        except OSError:  # the drive can't: the last member stays torn, which readers bear
            self._rest, self._lost = b"", True

    def finish(self) -> None:
        if not self._lost:
            last = self._rest + END
            last += bytes(-len(last) % RECORD)
            for at in range(0, len(last), RECORD):
                self._write_at_end(last[at : at + RECORD])
        self._drive.mark()
        self._drive.rewind()

    def _write_at_end(self, record: bytes) -> None:
        """Past the early warning every other write is refused."""
        try:
            self._drive.write(record)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self._drive.write(record)

    def abandon(self) -> None:
        pass  # its label says a set that no catalogue knows as whole


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view[: 8 << 20]) :]


def file_exists(path: Path) -> NotfallError:
    return NotfallError(
        "export-exists",
        f"{path} is there already.",
        "Remove or rename it, or name another one. Nothing is overwritten.",
        status=409,
    )
