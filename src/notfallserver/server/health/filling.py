"""When the pool will be full, from how full it was. Pure.

The pace is the median of the slopes between all pairs of samples, so that a single removal of
copies, or a first copy of a new server, does not decide alone. Samples from before the pool was
made larger don't count.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import combinations
from statistics import median

from notfallserver.server.records.space import Sample

LEAST_SPAN = timedelta(days=2)
"""What shows itself in less is no pace."""
LOOKS_BACK = timedelta(days=30)
FAR = timedelta(days=3650)


def time_until_full(
    samples: Sequence[Sample], size: int, free: int, now: datetime
) -> timedelta | None:
    """None where nothing can be said: too few samples, or it does not fill within ten years."""
    known = [one for one in samples if one.size == size and now - one.at <= LOOKS_BACK]
    known = [*known, Sample(now, size, free)]
    if now - known[0].at < LEAST_SPAN:
        return None
    pace = median(
        (one.free - other.free) / (other.at - one.at).total_seconds()
        for one, other in combinations(known, 2)
        if other.at > one.at
    )
    if pace <= 0:
        return None
    seconds = free / pace
    return timedelta(seconds=seconds) if seconds < FAR.total_seconds() else None
