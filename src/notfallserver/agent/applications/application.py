"""What can be held still, and what came of it.

An application is held in one of two ways. A pair of commands: ``freeze`` makes it stand still and
ends, ``thaw`` lets it work on. Or a holder: ``hold`` prints a line ``held`` when the application
stands still, holds it until its standard input ends, and exits with 0; for locks that live in a
session. ``prepare`` runs earlier, while the application works, and shortens the rest.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Dict, Mapping, Sequence, Tuple

FREEZE_SECONDS = 10.0
THAW_SECONDS = 10.0
PREPARE_SECONDS = 300.0


@dataclass(frozen=True)
class Application:
    """Commands as argument lists; times in seconds; ``user`` is a name or number, empty: root."""

    name: str
    prepare: Tuple[str, ...] = ()
    freeze: Tuple[str, ...] = ()
    thaw: Tuple[str, ...] = ()
    hold: Tuple[str, ...] = ()
    say: str = ""  # what a holder is told on its standard input, before that is kept open
    user: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare_seconds: float = PREPARE_SECONDS
    freeze_seconds: float = FREEZE_SECONDS
    thaw_seconds: float = THAW_SECONDS
    required: bool = False
    obstacle: str = ""  # why it cannot be held; then nothing is run

    @property
    def stands_still(self) -> bool:
        """Whether it really stops working, so that it must be let go again."""
        return bool(self.hold or self.thaw)

    def to_json(self) -> Dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Application:
        known = dict(body)
        for name in ("prepare", "freeze", "thaw", "hold"):
            known[name] = tuple(known[name])
        return cls(**known)


@dataclass(frozen=True)
class Hold:
    """What the keeper tells of one application; seconds of the monotonic clock."""

    name: str
    since: float = 0.0  # when it stood still; 0: it never did
    until: float = 0.0  # when it was let go; 0: not yet
    stood: bool = False  # whether it stopped working meanwhile
    error: str = ""


@dataclass(frozen=True)
class Applied:
    """What a version records of one application. ``held_ms``: how long it stood still."""

    name: str
    held_ms: float
    error: str = ""

    @property
    def good(self) -> bool:
        return not self.error


def judge(held: Sequence[Hold], frozen_at: float, limit: float) -> Tuple[Applied, ...]:
    """What counts: an application must stand still at the moment when the last filesystem froze.

    Let go later than that does no harm, because nothing it writes then reaches the disks.
    """
    found = []
    for one in held:
        error = one.error
        if not error and one.until and one.until < frozen_at:
            error = f"It was let go after {limit:g} s, before the filesystems were frozen."
        stood = one.until - one.since if one.since and one.stood else 0.0
        found.append(Applied(one.name, round(max(0.0, stood) * 1000, 1), error))
    return tuple(found)


def consistency(filesystems: str, applied: Sequence[Applied]) -> str:
    """A version's consistency, from that of the filesystems and all applications."""
    whole = filesystems == "filesystem" and applied and all(one.good for one in applied)
    return "application" if whole else filesystems
