"""The record that outlives the boot: what was known when the machine went down.

Two files in ``/var/lib/notfall-agent/KEY`` (mode 0600): ``prints`` has the fingerprints of files
(number u64 little-endian, fingerprint 8 bytes, ascending; one filesystem after the other), and
``kept`` (JSON), written last and durably, has all else and the digest of ``prints``. Whoever reads
the record removes it first, so that it is used once at most.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Callable, Iterable, Iterator, List, Optional, Sequence

from notfallserver.agent.changes.unchanged import Print
from notfallserver.agent.disks.base import Protected
from notfallserver.agent.inodes.base import FINGERPRINT
from notfallserver.wire.blocks import Run

FORMAT = 1
_PRINT = struct.Struct(f"<Q{FINGERPRINT}s")
_PIECE = _PRINT.size * 4096


@dataclass(frozen=True)
class Kept:
    """``since``, ``held`` as in the ledger; ``written`` since; ``moment_ns`` of the last freeze.

    ``counts`` are the fingerprints of each of the filesystems, ``filesystems``.
    """

    boot: str
    down: bool
    primary: str
    shape: str
    since: str
    held: List[List[Run]]
    written: List[List[Run]]
    moment_ns: int
    offset: float
    filesystems: List[str]
    counts: List[int]
    digest: str = ""


def shape_of(disks: Sequence[Protected]) -> str:
    """Equal for disks of the same sizes and partitions, whatever they are called in a boot."""
    told = [
        [one.size, one.sector, [[part.number, part.start, part.size] for part in one.volumes]]
        for one in disks
    ]
    return json.dumps(told)


class KeptFiles:
    """The record in its directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._record = directory / "kept"
        self._prints = directory / "prints"

    def begin(self) -> BinaryIO:
        """A new file of fingerprints; what was there is no longer valid."""
        self.drop()
        self._directory.mkdir(mode=0o700, parents=True)
        return os.fdopen(os.open(self._prints, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "w+b")

    def finish(self, prints: BinaryIO, digest: str, kept: Kept) -> None:
        """Make it count."""
        prints.flush()
        os.fsync(prints.fileno())
        told = {"format": FORMAT, **asdict(kept), "digest": digest}
        new = self._record.with_name("kept.new")
        with os.fdopen(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as stream:
            json.dump(told, stream)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(self._record)
        _sync(self._directory)
        _sync(self._directory.parent)

    def take(self) -> Optional[Kept]:
        """The record, which is gone then; None if there is none that is understood."""
        try:
            told: Any = json.loads(self._record.read_text(encoding="utf-8"))
            self._record.unlink()
            _sync(self._directory)
            if told.pop("format") != FORMAT:
                return None
            for name in ("held", "written"):
                told[name] = [[(int(at), int(n)) for at, n in runs] for runs in told[name]]
            kept = Kept(**told)
            return kept if kept.digest == self._digest() else None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def prints(self, kept: Kept, place: int) -> Iterator[Print]:
        """Those of one filesystem."""
        return read_prints(self._prints, kept.counts, place)

    def _digest(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        with self._prints.open("rb") as stream:
            for piece in iter(lambda: stream.read(1 << 20), b""):
                digest.update(piece)
        return digest.hexdigest()

    def drop(self) -> None:
        with suppress(FileNotFoundError):
            self._record.unlink()
        shutil.rmtree(self._directory, ignore_errors=True)


class PrintWriter:
    """Appends fingerprints of filesystems."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.blake2b(digest_size=16)
        self.counts: List[int] = []

    @contextmanager
    def filesystem(self) -> Iterator[Callable[[Print], None]]:
        """Those of another filesystem are given to what this yields."""
        pending = bytearray()
        self.counts.append(0)

        def add(one: Print) -> None:
            pending.extend(_PRINT.pack(*one))
            self.counts[-1] += 1
            if len(pending) >= _PIECE:
                self._write(pending)
                pending.clear()

        yield add
        self._write(pending)

    def add(self, prints: Iterable[Print]) -> None:
        """Those of another filesystem."""
        with self.filesystem() as add:
            for one in prints:
                add(one)

    def _write(self, piece: bytearray) -> None:
        self._digest.update(piece)
        self._stream.write(piece)

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()


def read_prints(path: Path, counts: Sequence[int], place: int) -> Iterator[Print]:
    """The fingerprints of one filesystem, in a file that has ``counts`` of each."""
    left = counts[place] * _PRINT.size
    with path.open("rb") as stream:
        stream.seek(sum(counts[:place]) * _PRINT.size)
        while left:
            piece = stream.read(min(left, _PIECE))
            if not piece:
                raise OSError("fingerprints are missing")
            left -= len(piece)
            yield from _PRINT.iter_unpack(piece)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
