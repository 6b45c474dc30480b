"""Tapes as the ``st`` driver shows them, in memory: records, file marks, the early warning at the
end, places that can't be read."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from pathlib import Path

from notfallserver.server.media.drive import RECORD

LATE = 8 * RECORD
"""So much can be written after the early warning."""


@dataclass
class Cartridge:
    """``bad``: numbers of records that can't be read."""

    capacity: int = 1 << 30
    records: list[bytes | None] = field(default_factory=list)  # None is a file mark
    bad: set[int] = field(default_factory=set)
    goes_back: bool = True
    written: int = 0

    @property
    def used(self) -> int:
        return sum(len(one or b"") for one in self.records)

    def content(self) -> bytes:
        """The first file."""
        end = self.records.index(None) if None in self.records else len(self.records)
        return b"".join(one or b"" for one in self.records[:end])


class DriveDouble:
    """Opened on the cartridge that is in it."""

    def __init__(self, tape: Cartridge) -> None:
        self.tape, self.at, self.warned = tape, 0, False

    def write(self, record: bytes) -> None:
        assert len(record) == RECORD
        tape = self.tape
        del tape.records[self.at :]
        if tape.used + RECORD > tape.capacity + LATE:
            raise OSError(errno.EIO, "physical end")
        if tape.used + RECORD > tape.capacity:
            self.warned = not self.warned
            if self.warned:
                raise OSError(errno.ENOSPC, "early warning")
        tape.records.append(record)
        tape.written += 1
        self.at += 1

    def read(self) -> bytes:
        if self.at >= len(self.tape.records):
            return b""
        if self.at in self.tape.bad:
            raise OSError(errno.EIO, "unreadable")
        record = self.tape.records[self.at]
        self.at += 1
        return record or b""

    def rewind(self) -> None:
        self.at = 0

    def back(self, records: int) -> None:
        if not self.tape.goes_back:
            raise OSError(errno.EIO, "can't")
        assert 0 <= records <= self.at
        assert None not in self.tape.records[self.at - records : self.at]
        self.at -= records

    def forward(self, records: int) -> None:
        self.at += records

    def mark(self) -> None:
        del self.tape.records[self.at :]
        self.tape.records.append(None)
        self.at += 1

    def unload(self) -> None:
        pass

    def close(self) -> None:
        pass


class Library:
    """A drive at ``path``, and whoever changes its tapes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.inside: Cartridge | None = None

    def open(self, path: Path, write: bool) -> DriveDouble:
        from notfallserver.server.media.drive import drive_error

        assert path == self.path
        if self.inside is None:
            raise drive_error(path, OSError(errno.ENOMEDIUM, "none"))
        return DriveDouble(self.inside)
