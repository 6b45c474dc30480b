"""A version: one complete, immutable point in time of all disks of a primary.

A version exists when its directory stands under ``versions/`` with a manifest; the manifest is
written last, before the directory gets its final name. Nothing in it is changed afterwards.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from notfallserver.server.host.files import read_json
from notfallserver.server.pool import layout
from notfallserver.server.pool.index import Index, hash_index
from notfallserver.wire.blocks import BLOCK, hash_block
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine, read_machine

FORMAT = 2
APPLICATIONS = 200
"""So many a version tells of at most."""
SAMPLE = 64
WATCHED = 96


@dataclass(frozen=True)
class DiskImage:
    """One disk of a version; ``size`` in bytes, ``used`` in blocks, ``index_hash`` BLAKE2b-256."""

    index: int
    size: int
    used: int
    index_hash: str


@dataclass(frozen=True)
class Application:
    """An application of the primary: how long it was held, in milliseconds; ``error``: why not."""

    name: str
    held_ms: float = 0
    error: str = ""

    def told(self) -> str:
        """In a few words, for the end of a replication."""
        return f"{self.name}: {self.error}" if self.error else f"{self.name} stood still"


@dataclass(frozen=True)
class SampleFile:
    """A file of the original as its agent saw it; ``path`` from the root of the filesystem with
    this UUID, ``size`` in bytes."""

    filesystem: str
    path: str
    size: int
    sha256: str


def read_sample(body: Any) -> tuple[SampleFile, ...]:
    """What an agent tells; bounded, and what isn't understood is an error."""
    try:
        found = tuple(
            SampleFile(str(one["filesystem"]), str(one["path"]), int(one["size"]), one["sha256"])
            for one in body
        )
        if len(found) <= SAMPLE and all(_is_sound(one) for one in found):
            return found
    except (KeyError, TypeError, ValueError):
        pass
    raise NotfallError("bad-seal", "The run's sample is not understood.", "Update the agent.")


def _is_sound(one: SampleFile) -> bool:
    hashed = isinstance(one.sha256, str) and re.fullmatch("[0-9a-f]{64}", one.sha256)
    named = len(one.filesystem) <= 64 and one.path.startswith("/") and "\0" not in one.path
    one.path.encode()  # a lone surrogate, which JSON can carry, is a ValueError
    return bool(hashed and named and len(one.path) <= 4096 and 0 <= one.size < 1 << 40)


@dataclass(frozen=True, slots=True)
class WatchedFile:
    """A file of the original that its agent looks at in each run. ``key`` is the same while it has
    the same name up to the extension; ``kind`` is what its first bytes say, empty where they say
    nothing; ``dense``: 1 if its beginning does not pack, plus 2 if its middle does not."""

    key: str
    path: str
    size: int
    kind: str
    dense: int


def read_watched(body: Any) -> tuple[WatchedFile, ...]:
    """What an agent tells; bounded, and what isn't understood is an error."""
    try:
        found = tuple(
            WatchedFile(
                str(one["key"])[:40],
                str(one["path"])[:4096],
                int(one["size"]),
                str(one["kind"])[:16],
                int(one["dense"]) & 3,
            )
            for one in body
        )
        for one in found:
            one.path.encode()  # a lone surrogate, which JSON can carry, is a ValueError
        if len(found) <= WATCHED and all(0 <= one.size < 1 << 63 for one in found):
            return found
    except (KeyError, TypeError, ValueError):
        pass
    raise NotfallError("bad-seal", "The run's files are not understood.", "Update the agent.")


def read_applications(body: Any) -> tuple[Application, ...]:
    """What an agent tells; bounded, and what isn't understood is an error."""
    try:
        found = tuple(
            Application(str(one["name"])[:200], float(one["held_ms"]), str(one["error"])[:500])
            for one in body
        )
        if len(found) <= APPLICATIONS and all(0 <= one.held_ms < 1e9 for one in found):
            return found
    except (KeyError, TypeError, ValueError):
        pass
    raise NotfallError(
        "bad-seal", "The run's applications are not understood.", "Update the agent."
    )


@dataclass(frozen=True)
class Manifest:
    """What a version tells of itself. Times are ISO 8601 in UTC, sizes in bytes."""

    primary: str
    name: str
    stamp: str
    kind: str  # replication, import or capture
    consistency: str  # application, filesystem or crash
    base: str
    machine: Machine
    disks: tuple[DiskImage, ...]
    started_at: str
    sealed_at: str
    freeze_ms: float = 0
    passes: int = 0
    bytes_read: int = 0
    bytes_sent: int = 0
    bytes_changed: int = 0
    bytes_shared: int = 0
    read_all: bool = True
    applications: tuple[Application, ...] = ()
    deep: bool = False  # read all although it was known what was written
    unexplained: int = 0  # blocks that a deep run found changed, but not written
    sample: tuple[SampleFile, ...] = ()
    watched: tuple[WatchedFile, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Manifest:
        known = dict(body)
        if known.pop("format", None) != FORMAT:
            raise NotfallError(
                "unknown-format",
                "This version was written by a newer server.",
                "Update this server.",
            )
        known["machine"] = read_machine(known["machine"])
        known["disks"] = tuple(DiskImage(**one) for one in known["disks"])
        known["applications"] = read_applications(known.get("applications", []))
        known["sample"] = read_sample(known.get("sample", []))
        known["watched"] = read_watched(known.get("watched", []))
        return cls(**known)


@dataclass(frozen=True)
class Version:
    """A sealed version in the pool."""

    path: Path
    manifest: Manifest

    @property
    def stamp(self) -> str:
        return self.manifest.stamp

    def raw(self, index: int) -> Path:
        return self.path / layout.raw_name(index)

    def idx(self, index: int) -> Path:
        return self.path / layout.idx_name(index)

    @property
    def bytes_used(self) -> int:
        return sum(one.used for one in self.manifest.disks) * BLOCK


def read_version(path: Path) -> Version:
    """What is sealed never changes, so the same file is read once."""
    told = (path / layout.MANIFEST).stat()
    return Version(path, _manifest(path / layout.MANIFEST, told.st_ino, told.st_mtime_ns))


@lru_cache(maxsize=1024)
def _manifest(path: Path, inode: int, written_ns: int) -> Manifest:
    return Manifest.from_json(read_json(path))


def check_version(version: Version) -> list[str]:
    """Read the whole version and compare it with its index; returns what is wrong, in words."""
    wrong = []
    for disk in version.manifest.disks:
        if hash_index(version.idx(disk.index)) != disk.index_hash:
            wrong.append(f"disk {disk.index}: the block index is damaged")
            continue
        wrong += _check_blocks(version, disk)
    return wrong


def _check_blocks(version: Version, disk: DiskImage) -> list[str]:
    bad = 0
    with Index(version.idx(disk.index)) as index, version.raw(disk.index).open("rb") as raw:
        for number in range(index.blocks):
            raw.seek(number * BLOCK)
            bad += hash_block(raw.read(min(BLOCK, disk.size - number * BLOCK))) != index[number]
    return [f"disk {disk.index}: {bad} blocks differ from the index"] if bad else []
