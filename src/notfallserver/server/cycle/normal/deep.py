"""Deep runs: from time to time everything is read, although the agent knows what was written.

What differs then without having been written is an error of that knowledge (or of the disk). The
run has repaired it; here is kept when the last one was, and what it found. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from notfallserver.server.pool.version import Manifest
from notfallserver.wire.blocks import BLOCK

DEEP, DEEP_DAYS = "deep", "deep_days"
"""Where a primary's notes hold the last one, and the days between them."""
DAYS = 14
"""Between deep runs, when nobody says otherwise; 0 is never."""


@dataclass(frozen=True)
class Deep:
    """The last run that read everything; ``unexplained`` blocks of ``found_in`` had changed unseen.

    The latter stay known until a later deep run finds nothing.
    """

    at: str
    found_in: str = ""
    unexplained: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def in_words(self) -> str:
        """Of what was found."""
        return (
            f"{self.unexplained} blocks ({self.unexplained * BLOCK >> 10} KiB) had changed without "
            f"being seen; version {self.found_in} holds them right, earlier ones may not."
        )


def read_deep(notes: Mapping[str, Any]) -> Deep | None:
    return Deep(**notes[DEEP]) if DEEP in notes else None


def days_of(notes: Mapping[str, Any]) -> int:
    return int(notes.get(DEEP_DAYS, DAYS))


def deep_due(notes: Mapping[str, Any], now: datetime) -> bool:
    """Whether the next run should be one."""
    last, days = read_deep(notes), days_of(notes)
    if last is None or not days:
        return False
    return now - datetime.fromisoformat(last.at) >= timedelta(days=days)


def judge_deep(last: Deep | None, manifest: Manifest) -> Deep | None:
    """What is known after this version; None where it says nothing new.

    A run that read all because nothing was known has nothing to compare, so that it takes no
    alarm back.
    """
    if manifest.deep:
        found_in = manifest.stamp if manifest.unexplained else ""
        return Deep(manifest.sealed_at, found_in, manifest.unexplained)
    if last is None:
        return Deep(manifest.sealed_at)
    if manifest.read_all:
        return Deep(manifest.sealed_at, last.found_in, last.unexplained)
    return None
