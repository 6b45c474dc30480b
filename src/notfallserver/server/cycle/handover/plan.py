"""When a handover may shut the original down, and how long nobody can work then. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

SMALL = 64 << 20
"""Of what was written since the last version, so many bytes are soon read and sent."""
MOST_ROUNDS = 6
"""An original that writes more than the line carries does not get closer with more rounds."""

SHUT_DOWN_S = 30.0
READ_S = 10.0
ADAPT_S = 60.0
BOOT_S = 60.0
"""What is assumed where nothing was measured yet."""

ECHO = timedelta(seconds=5)
"""What is heard so long after a farewell was on its way before."""
LEFT = "left"
"""In a primary's notes: the last message of an original that was handed over."""
CAN = "can"
"""In a primary's notes: what its agent says that it can do."""
HAND_OVER = "hand-over"


def near_enough(number: int, changed: int, before: int) -> bool:
    """Whether round ``number``, in which so many bytes were new, is the last one before the end;
    ``before``: of the round before it."""
    return changed <= SMALL or number >= MOST_ROUNDS or (number > 1 and changed > before // 2)


@dataclass(frozen=True)
class Downtime:
    """How long nobody can work, by its parts, in seconds."""

    shut_down: float
    last_delta: float
    adapt: float
    boot: float

    @property
    def whole(self) -> float:
        return round(self.shut_down + self.last_delta + self.adapt + self.boot, 1)


def predict(
    line_rate: float = 0.0, adapt_s: float | None = None, boot_s: float | None = None
) -> Downtime:
    """From what was measured: bytes a second of the line (0: unknown), how long the last adaptation
    took, and after how long a copy answered."""
    delta = READ_S + (SMALL / line_rate if line_rate else 0.0)
    return Downtime(
        SHUT_DOWN_S,
        round(delta, 1),
        ADAPT_S if adapt_s is None else round(adapt_s, 1),
        BOOT_S if boot_s is None else round(boot_s, 1),
    )


@dataclass(frozen=True)
class Left:
    """An original said that it ends: with which version, in which boot, for which job."""

    version: str
    boot: str
    job: str
    at: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def moment(self) -> datetime:
        return datetime.fromisoformat(self.at)


def read_left(notes: Mapping[str, Any]) -> Left | None:
    return Left(**notes[LEFT]) if LEFT in notes else None


def has_left(notes: Mapping[str, Any], last_seen: datetime | None) -> bool:
    """Whether the last that was heard of an original was its farewell, or on its way then."""
    left = read_left(notes)
    return bool(left and last_seen and last_seen - left.moment < ECHO)
