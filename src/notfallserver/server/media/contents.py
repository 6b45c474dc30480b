"""What a set of media holds: some versions, cut into segments that are written in order.

A segment is a stretch of one disk (64 MiB, at a multiple of that); one without content is left out.
Which there are follows from the runs of used blocks alone, so that every medium can tell what is
missing when another one is lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from notfallserver.server.pool.index import Index
from notfallserver.server.pool.layout import STAMP
from notfallserver.server.pool.version import Manifest, Version
from notfallserver.wire.blocks import BLOCK, HASH, HOLE, Run, runs_of
from notfallserver.wire.errors import NotfallError

FORMAT = 1
SPAN = 1024
"""Blocks of a segment: 64 MiB."""
MIB = 1 << 20


@dataclass(frozen=True)
class Medium:
    """One medium that is whole: it holds the segments from ``first`` up to before ``end``."""

    number: int
    first: int
    end: int
    bytes: int = 0
    sha256: str = ""
    written_at: str = ""
    where: str = ""


@dataclass(frozen=True)
class Copy:
    """One version; ``used``: by disk the runs of blocks that hold something."""

    folder: str
    manifest: Mapping[str, Any]
    used: tuple[tuple[Run, ...], ...]

    @property
    def primary(self) -> str:
        return str(self.manifest["primary"])

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def stamp(self) -> str:
        return str(self.manifest["stamp"])

    def size(self, disk: int) -> int:
        return int(self.manifest["disks"][disk]["size"])


@dataclass(frozen=True)
class Segment:
    """``copy`` and ``disk`` by their numbers; ``span`` counts segments from the disk's start."""

    number: int
    copy: int
    disk: int
    span: int


@dataclass(frozen=True)
class Contents:
    """Of a whole set, as far as is known; ``recipients``: whose keys open it, empty: it is open."""

    set: str
    label: str
    created_at: str
    server: str
    copies: tuple[Copy, ...]
    recipients: tuple[str, ...] = ()
    span: int = SPAN
    media: tuple[Medium, ...] = ()
    complete: bool = False

    def segments(self) -> Iterator[Segment]:
        """All of the set, in the order in which they are written."""
        number = 0
        for at, copy in enumerate(self.copies):
            for disk, runs in enumerate(copy.used):
                for span in _spans(runs, self.span):
                    yield Segment(number, at, disk, span)
                    number += 1

    def name_of(self, one: Segment) -> str:
        """As a member of the archive: it tells where on the disk the segment belongs, in MiB."""
        copy = self.copies[one.copy]
        place = one.span * self.span * BLOCK
        unit = f"{place // MIB:09d}M" if self.span * BLOCK % MIB == 0 else f"{place:015d}B"
        return f"{copy.folder}/disk{one.disk}/{unit}"

    def used_of(self, one: Segment) -> list[int]:
        """The used blocks of a segment, counted from the disk's start."""
        first, end = one.span * self.span, (one.span + 1) * self.span
        found: list[int] = []
        for begin, count in self.copies[one.copy].used[one.disk]:
            found += range(max(begin, first), min(begin + count, end))
        return found

    @property
    def bytes_used(self) -> int:
        return sum(n for copy in self.copies for runs in copy.used for _, n in runs) * BLOCK

    def with_medium(self, one: Medium, complete: bool) -> Contents:
        return replace(self, media=(*self.media, one), complete=complete)

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, body: Any) -> Contents:
        """It comes from a medium: what is not understood is an error."""
        try:
            if body["format"] != FORMAT:
                raise ValueError(body["format"])
            copies = tuple(_copy(one) for one in body["copies"])
            media = tuple(Medium(**one) for one in body["media"])
            recipients = tuple(str(one) for one in body["recipients"])
            span = int(body["span"])
            if not 0 < span <= 1 << 14 or not re.fullmatch("[0-9a-f]{16}", str(body["set"])):
                raise ValueError(span)
            return cls(
                set=str(body["set"]),
                label=str(body["label"]),
                created_at=str(body["created_at"]),
                server=str(body["server"]),
                copies=copies,
                recipients=recipients,
                span=span,
                media=media,
                complete=body["complete"] is True,
            )
        except (KeyError, TypeError, ValueError, NotfallError) as error:
            raise NotfallError(
                "tape-unreadable",
                f"What the medium tells of its content is not understood: {error}.",
                "Try another medium of the set; each tells the same.",
            ) from None


def _copy(body: Mapping[str, Any]) -> Copy:
    manifest = Manifest.from_json(dict(body["manifest"]))
    folder = str(body["folder"])
    if not re.fullmatch(rf"[A-Za-z0-9_-][A-Za-z0-9._-]*/{STAMP.pattern}", folder):
        raise ValueError(folder)
    used = tuple(tuple((int(at), int(count)) for at, count in runs) for runs in body["used"])
    if len(used) != len(manifest.disks):
        raise ValueError("disks")
    for runs, disk in zip(used, manifest.disks, strict=True):
        blocks = -(-disk.size // BLOCK)
        end = 0
        for at, count in runs:
            if at < end or count < 1 or at + count > blocks:
                raise ValueError("runs")
            end = at + count
    return Copy(folder, body["manifest"], used)


def _spans(runs: Sequence[Run], span: int) -> Iterator[int]:
    last = -1
    for first, count in runs:
        for one in range(max(first // span, last + 1), (first + count - 1) // span + 1):
            yield one
            last = one


def copy_of(version: Version) -> Copy:
    """What a medium tells of a version."""
    manifest = version.manifest
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", manifest.name) or "server"
    folder = f"{plain}-{manifest.primary[:8]}/{version.stamp}"
    used = tuple(_used(version, one.index) for one in manifest.disks)
    return Copy(folder, manifest.to_json(), used)


def _used(version: Version, disk: int) -> tuple[Run, ...]:
    def numbers() -> Iterator[int]:
        with Index(version.idx(disk)) as index:
            for first, entries in index.stretches():
                for at in range(0, len(entries), HASH):
                    if entries[at : at + HASH] != HOLE:
                        yield first + at // HASH

    return tuple(runs_of(numbers()))
