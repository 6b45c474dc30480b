"""Media that are read, as a row of bytes. What can't be read is zeros, so that places stay right;
how many bytes these were is counted in ``unread``."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Protocol

from notfallserver.server.media.drive import RECORD, Drive

_PIECE = 64 << 10


class Stream(Protocol):
    unread: int

    def read(self, count: int) -> bytes:
        """Just so many; fewer only at the end."""
        ...

    def skip(self, count: int) -> None: ...

    def close(self) -> None: ...


class FileStream:
    """A file, or a pipe."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        told = os.fstat(self._handle)
        self._seeks = stat.S_ISREG(told.st_mode)
        self._size = told.st_size
        self._at = 0
        self.unread = 0

    def read(self, count: int) -> bytes:
        parts = []
        while count > 0:
            try:
                part = os.read(self._handle, min(count, 8 << 20))
            except OSError as error:
                if error.errno != errno.EIO or not self._seeks:
                    raise
                part = self._worth(min(count, 8 << 20))
            if not part:
                break
            parts.append(part)
            count -= len(part)
            self._at += len(part)
        return b"".join(parts)

    def _worth(self, count: int) -> bytes:
        """In small pieces around what is damaged."""
        step = min(_PIECE - self._at % _PIECE, count, self._size - self._at)
        try:
            return os.pread(self._handle, step, self._at)
        except OSError:
            self.unread += step
            return bytes(step)
        finally:
            os.lseek(self._handle, self._at + step, os.SEEK_SET)

    def skip(self, count: int) -> None:
        if self._seeks:
            self._at = os.lseek(self._handle, count, os.SEEK_CUR)
            return
        while count > 0 and (part := self.read(min(count, 8 << 20))):
            count -= len(part)

    def close(self) -> None:
        os.close(self._handle)


class TapeStream:
    """A tape from its beginning to the first file mark."""

    MOST_BAD = 4096
    """After so many records that can't be read, the tape counts as ended."""

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self._drive.rewind()
        self._rest = b""
        self._bad = 0
        self.unread = 0

    def read(self, count: int) -> bytes:
        parts = [self._rest]
        have = len(self._rest)
        while have < count and (record := self._record()):
            parts.append(record)
            have += len(record)
        whole = b"".join(parts)
        self._rest = whole[count:]
        return whole[:count]

    def _record(self) -> bytes:
        try:
            return self._drive.read()
        except OSError as error:
            if error.errno == errno.ENOSPC:
                return b""
            self._bad += 1
            self.unread += RECORD
            if self._bad > self.MOST_BAD:
                return b""
            try:
                self._drive.forward(1)
            except OSError:
                return b""
            return bytes(RECORD)

    def skip(self, count: int) -> None:
        while count > 0 and (part := self.read(min(count, RECORD))):
            count -= len(part)

    def close(self) -> None:
        self._drive.close()
