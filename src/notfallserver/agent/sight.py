"""Whether a run that is ready to freeze should wait for another one, for another server. Pure."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_WAIT_S, LONGEST_WAIT_S = 5.0, 60.0
WAIT_SHARE = 0.1
"""A run waits so large a part of its own time, within these bounds."""
STALL_S = 5.0
"""A pass in which nothing went on for so long waits for its server, or pauses."""


@dataclass(frozen=True)
class Sight:
    """What a run shows of its hot pass; bytes, and seconds by the monotonic clock."""

    began: float
    moved: float  # when last something went on
    done: int = 0
    total: int = 0

    def next(self, now: float, done: int, total: int, new: bool) -> Sight:
        """The same later; ``new``: another pass has begun."""
        if new:
            return Sight(now, now, done, total)
        goes_on = done != self.done or done >= total
        return Sight(self.began, now if goes_on else self.moved, done, total)


def worth_waiting(began: float, ready: float, other: Sight, now: float) -> bool:
    """Whether a run that began and is ready since then should wait for the other. Pure."""
    bound = min(LONGEST_WAIT_S, max(LEAST_WAIT_S, (ready - began) * WAIT_SHARE))
    left = bound - (now - ready)
    if left <= 0 or now - other.moved >= STALL_S:
        return False
    if not other.done:
        return True  # its pass has only begun; the next look tells more
    return (other.total - other.done) * (now - other.began) / other.done <= left
