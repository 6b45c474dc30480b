"""Where things lie in the pool. Only this module knows the names.

::

    <pool>/<primary-uuid>/
      primary.json                    name and newest facts
      health.json                     when each version was checked, and what is damaged in it
      proofs.json                     what each version's last rehearsal proved
      pins.json                       versions that no rule removes
      measures.json                   what each version shows against its base, and alarms
      versions/<stamp>/               manifest.json, disk0.raw, disk0.idx, ...
      incoming/                       at most one unfinished version
      prepared/<stamp>/               adapted clone of that version; prepared.json is its seal
      standin/                        the running stand-in's disks; standin.json is their seal
      work/                           clones for file access and rehearsals; gone when nothing runs
      reshaped/<stamp>/               that version on other disks; reshaped.json is its seal
      known/                          where contents lie, by hash; may be removed at any time
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from uuid import UUID

from notfallserver.wire.errors import NotfallError

MANIFEST = "manifest.json"
PREPARED = "prepared.json"
STANDIN = "standin.json"
RUN = "run.json"
PRIMARY = "primary.json"
HEALTH = "health.json"
PROOFS = "proofs.json"
PINS = "pins.json"
MEASURES = "measures.json"
RESHAPED = "reshaped.json"

STAMP = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{3}Z")
"""The name of a version, wherever it stands."""


def make_stamp(moment: datetime) -> str:
    """The name of a version: its point in time, UTC, in milliseconds; sorts as text."""
    utc = moment.astimezone(timezone.utc)
    return f"{utc:%Y%m%dT%H%M%S}.{utc.microsecond // 1000:03d}Z"


def stamp_time(stamp: str) -> datetime:
    """The point in time that a version's name tells; a wrong name is an error."""
    check_stamp(stamp)
    return datetime.fromisoformat(stamp)


def check_stamp(stamp: str) -> str:
    if not STAMP.fullmatch(stamp):
        raise NotfallError(
            "bad-version",
            f"'{stamp[:40]}' names no version.",
            "List the versions and take a name from there, such as 20261123T101500.000Z.",
        )
    return stamp


def raw_name(index: int) -> str:
    return f"disk{index}.raw"


def idx_name(index: int) -> str:
    return f"disk{index}.idx"


@dataclass(frozen=True)
class PrimaryPaths:
    """The directories of one primary; ``uuid`` is checked, so no path leads out of the pool."""

    root: Path

    @classmethod
    def of(cls, pool: Path, uuid: str) -> PrimaryPaths:
        try:
            return cls(pool / str(UUID(uuid)))
        except ValueError:
            raise NotfallError("unknown-primary", f"'{uuid[:40]}' is no primary.") from None

    @property
    def record(self) -> Path:
        return self.root / PRIMARY

    @property
    def health(self) -> Path:
        return self.root / HEALTH

    @property
    def proofs(self) -> Path:
        return self.root / PROOFS

    @property
    def pins(self) -> Path:
        return self.root / PINS

    @property
    def measures(self) -> Path:
        return self.root / MEASURES

    @property
    def versions(self) -> Path:
        return self.root / "versions"

    @property
    def incoming(self) -> Path:
        return self.root / "incoming"

    @property
    def prepared(self) -> Path:
        return self.root / "prepared"

    @property
    def standin(self) -> Path:
        return self.root / "standin"

    @property
    def reshaped(self) -> Path:
        return self.root / "reshaped"

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def known(self) -> Path:
        return self.root / "known"

    def make(self) -> None:
        for one in (self.versions, self.prepared, self.work):
            one.mkdir(parents=True, exist_ok=True)
