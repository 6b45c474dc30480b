"""How long the versions of a primary stay, as people set it (pure).

The rules of the server are settings; a primary may have its own, which are kept in its notes and
name only what differs, so that the rest goes on to follow the settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from notfallserver.server.settings import Settings
from notfallserver.wire.errors import NotfallError

RETENTION = "retention"
"""Where a primary's notes hold its own rules."""


@dataclass(frozen=True)
class Rules:
    """``all_hours``: every version of that time stays. ``hourly`` to ``yearly``: of so many hours,
    days, ... in which there are versions, the last one of each. ``proven``: so many versions that
    are proven to start stay at least. ``floor_days``: of so many days the last version of each
    stays even when the pool fills up."""

    all_hours: int = 24
    hourly: int = 48
    daily: int = 14
    weekly: int = 8
    monthly: int = 12
    yearly: int = 3
    proven: int = 2
    floor_days: int = 7

    def to_json(self) -> dict[str, int]:
        return asdict(self)


NAMES = tuple(one.name for one in fields(Rules))
MOST = {"all_hours": 24 * 366, "hourly": 24 * 366, "daily": 3660, "weekly": 1000, "monthly": 600}
LEAST = {"proven": 1, "floor_days": 1}
_ANY_MOST = 100


def bounds(name: str) -> tuple[int, int]:
    """The least and the most that may be set."""
    return LEAST.get(name, 0), MOST.get(name, _ANY_MOST)


def rules_of(settings: Settings, notes: Mapping[str, Any]) -> Rules:
    """What holds for the primary with these notes."""
    common = Rules(**{name: getattr(settings, f"keep_{name}") for name in NAMES})
    return replace(common, **own_rules(notes))


def own_rules(notes: Mapping[str, Any]) -> dict[str, int]:
    """What is set for this primary alone; what a newer server knows beside is left out."""
    told = notes.get(RETENTION)
    return (
        {key: int(value) for key, value in told.items() if key in NAMES}
        if isinstance(told, Mapping)
        else {}
    )


def checked(wish: Mapping[str, int]) -> dict[str, int]:
    """A wish that makes sense; refused as a whole."""
    for name, value in wish.items():
        if name not in NAMES:
            raise _bad(f"There is no rule '{name[:40]}'; there are {', '.join(NAMES)}.")
        least, most = bounds(name)
        if not least <= value <= most:
            raise _bad(f"'{name}' must be between {least} and {most}, not {value}.")
    return dict(wish)


def _bad(why: str) -> NotfallError:
    return NotfallError("bad-rules", why, "See 'notfall retention show'.", status=422)
