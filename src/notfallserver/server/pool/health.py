"""What is known of the soundness of a primary's versions: ``health.json`` beside them.

Versions are immutable, so damage is not noted in them. A block counts as damaged from the moment
that is written here until it was read back right after its repair; only then is it taken out.
Losing the file loses no data: the next check finds the damage again. Written durably, by one
process; a broken file counts as an empty one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from notfallserver.server.host.files import read_json, replace_json
from notfallserver.server.pool import layout
from notfallserver.wire.blocks import Run
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

FORMAT = 1

_writing = threading.Lock()


@dataclass(frozen=True)
class Health:
    """One version's. ``checked_at`` is when it was last read as a whole, ISO 8601 in UTC, or empty.

    ``blocks`` are the damaged runs by disk; ``indexes`` the disks whose block index is not the one
    that was sealed. ``told`` counts the damaged blocks that the journal knows of. ``lost``: a later
    version is sound and holds no copy. ``renew``: an image prepared from this version may hold
    the damage and must be made anew.
    """

    checked_at: str = ""
    blocks: Mapping[int, tuple[Run, ...]] = field(default_factory=dict)
    indexes: tuple[int, ...] = ()
    told: int = 0
    lost: bool = False
    renew: bool = False

    @property
    def damaged(self) -> bool:
        return bool(self.blocks or self.indexes)

    @property
    def count(self) -> int:
        """How many blocks are damaged."""
        return sum(count for runs in self.blocks.values() for _, count in runs)

    def with_checked(self, disk: int, first: int, count: int, bad: Sequence[Run]) -> Health:
        """After ``count`` blocks from ``first`` were read and just ``bad`` of them were wrong."""
        before = self.blocks.get(disk, ())
        return self.with_blocks(disk, [*outside(before, first, count), *bad])

    def with_blocks(self, disk: int, runs: Iterable[Run]) -> Health:
        """``runs`` and no others are damaged on ``disk``."""
        blocks = {**self.blocks, disk: tuple(joined(runs))}
        blocks = {one: runs for one, runs in sorted(blocks.items()) if runs}
        found = replace(self, blocks=blocks)
        return replace(found, renew=True) if found.count > self.count else found

    def with_index(self, disk: int, right: bool) -> Health:
        """The index of ``disk`` is right, or not."""
        if right:
            return replace(self, indexes=tuple(one for one in self.indexes if one != disk))
        if disk in self.indexes:
            return self
        # Which blocks are in doubt is known only when the check is through.
        return replace(self, indexes=tuple(sorted({*self.indexes, disk})), checked_at="")

    def to_json(self) -> dict[str, Any]:
        body = {**vars(self), "blocks": {str(disk): runs for disk, runs in self.blocks.items()}}
        return {key: value for key, value in body.items() if value}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Health:
        blocks = {
            int(disk): tuple((int(first), int(count)) for first, count in runs)
            for disk, runs in body.get("blocks", {}).items()
        }
        indexes = tuple(int(disk) for disk in body.get("indexes", ()))
        return cls(**{**body, "blocks": blocks, "indexes": indexes})


SOUND = Health()


def joined(runs: Iterable[Run]) -> list[Run]:
    """Sorted, overlapping and touching runs joined."""
    found: list[Run] = []
    for first, count in sorted(runs):
        if found and first <= sum(found[-1]):
            found[-1] = found[-1][0], max(sum(found[-1]), first + count) - found[-1][0]
        elif count:
            found.append((first, count))
    return found


def outside(runs: Iterable[Run], first: int, count: int) -> list[Run]:
    """What of ``runs`` lies before or behind ``count`` blocks from ``first``."""
    left: list[Run] = []
    for begin, length in runs:
        before = min(begin + length, first) - begin
        behind = begin + length - max(begin, first + count)
        left += [(begin, before)] if before > 0 else []
        left += [(begin + length - behind, behind)] if behind > 0 else []
    return left


class HealthRecord:
    """The record of one primary. Thread-safe."""

    def __init__(self, paths: layout.PrimaryPaths) -> None:
        self._path = paths.health
        self._versions = paths.versions

    def all(self) -> dict[str, Health]:
        """By stamp; a version that was never looked at is missing."""
        return {stamp: Health.from_json(one) for stamp, one in self._read()["versions"].items()}

    def of(self, stamp: str) -> Health:
        return self.all().get(stamp, SOUND)

    @property
    def completed_at(self) -> str:
        """When all versions had been checked last; empty for never."""
        return str(self._read()["completed_at"])

    def complete(self, at: str) -> None:
        with _writing:
            self._write({**self._read(), "completed_at": at})

    def change(self, stamp: str, how: Callable[[Health], Health]) -> Health:
        """Apply ``how`` to what is known of a version, durably; versions that are gone go here."""
        with _writing:
            body = self._read()
            known = body["versions"]
            before = Health.from_json(known.get(stamp, {}))
            after = how(before)
            if after != before:
                known[stamp] = after.to_json()
                body["versions"] = {
                    one: health for one, health in known.items() if _exists(self._versions / one)
                }
                self._write(body)
        return after

    def _read(self) -> dict[str, Any]:
        empty: dict[str, Any] = {"completed_at": "", "versions": {}}
        try:
            body = read_json(self._path)
            if body.get("format") == FORMAT:
                for one in body["versions"].values():
                    Health.from_json(one)
                return {**empty, **body}
        except FileNotFoundError:
            return empty
        except (NotfallError, KeyError, TypeError, ValueError, AttributeError):
            pass
        log.error("%s cannot be read; what it knew is found again by the next check", self._path)
        return empty

    def _write(self, body: dict[str, Any]) -> None:
        replace_json(self._path, {**body, "format": FORMAT})


def _exists(version: Path) -> bool:
    return (version / layout.MANIFEST).exists()
