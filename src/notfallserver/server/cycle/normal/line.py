"""What the line to a primary gives, as its agent measured it in the last runs (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

LINE = "line"
"""Where a primary's notes hold it."""
_NEAR = 0.8
"""A rate of so much of the limit was held down by the limit."""
_MOST = 1e12


@dataclass(frozen=True)
class SeenLine:
    """Bytes a second; ``limited``: our own limit held it down, the line gives at least that."""

    rate: float
    at: str
    limited: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_line(noted: Any) -> SeenLine | None:
    """From the notes."""
    if not isinstance(noted, Mapping):
        return None
    return SeenLine(float(noted["rate"]), str(noted["at"]), bool(noted.get("limited")))


def judge(known: SeenLine | None, told: Any, limit: float, now: datetime) -> SeenLine | None:
    """What is known after a run that told this rate under this limit (0: none).

    A rate that our own limit held down says only that the line is not slower.
    """
    if not isinstance(told, (int, float)) or isinstance(told, bool) or not 0 < told < _MOST:
        return known
    seen = SeenLine(
        float(told), now.isoformat(timespec="seconds"), bool(limit and told > limit * _NEAR)
    )
    if seen.limited and known is not None and known.rate > seen.rate:
        return known
    return seen
