"""How old the newest version was at each moment of a span. Pure, and exact: between two versions
the age grows evenly, so nothing is sampled.

A version of the moment ``taken`` counts from ``there`` on, when it was complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from notfallserver.server.report.tree import Ages, Gap, Span

TOLERANCE = 2
"""A version may become so many intervals old: the interval, and a run that takes as long."""
MOST_GAPS = 20


@dataclass(frozen=True, order=True)
class Take:
    """A version: its point in time, and since when it is there."""

    there: datetime
    taken: datetime


@dataclass(frozen=True, order=True)
class Plan:
    """From ``since`` on there should be a version every so many minutes; 0: only on request."""

    since: datetime
    minutes: int


@dataclass(frozen=True)
class _Piece:
    """A part of the span in which neither version nor plan changes; ``low`` and ``high`` seconds
    are the age at its begin and end."""

    begin: datetime
    end: datetime
    taken: datetime | None
    allowed: float

    @property
    def seconds(self) -> float:
        return (self.end - self.begin).total_seconds()

    @property
    def low(self) -> float:
        return max(0.0, (self.begin - self.taken).total_seconds()) if self.taken else 0.0

    @property
    def high(self) -> float:
        return self.low + self.seconds

    @property
    def kept(self) -> float:
        """Seconds within the target."""
        return min(max(self.allowed - self.low, 0.0), self.seconds) if self.taken else 0.0


def target_of(minutes: int) -> float | None:
    """The age in seconds that is within the plan."""
    return minutes * 60.0 * TOLERANCE if minutes else None


def ages_of(span: Span, takes: Sequence[Take], plans: Sequence[Plan]) -> Ages:
    """``plans`` cover the span from its begin; ``takes`` may lie before it, too."""
    pieces = _pieces(span, takes, plans)
    old = [one for one in pieces if one.taken is not None]
    judged = [one for one in pieces if one.allowed]
    total = sum(one.seconds for one in judged)
    gaps = _gaps(judged)
    longest = sorted(sorted(gaps, key=lambda one: one.worst_s)[-MOST_GAPS:], key=_begin)
    return Ages(
        worst_s=max((one.high for one in old), default=None),
        median_s=_median(old),
        at_end_s=old[-1].high if old and old[-1].end == span.end else None,
        within=sum(one.kept for one in judged) / total if total else None,
        without_s=sum(one.seconds for one in pieces if one.taken is None),
        gap_count=len(gaps),
        gaps=tuple(longest),
    )


def _pieces(span: Span, takes: Sequence[Take], plans: Sequence[Plan]) -> list[_Piece]:
    cuts = {one.there for one in takes} | {one.since for one in plans}
    inside = sorted(cut for cut in cuts if span.begin < cut < span.end)
    edges = [span.begin, *inside, span.end]
    takes, plans = sorted(takes), sorted(plans)
    found: list[_Piece] = []
    taken: datetime | None = None
    minutes = at_take = at_plan = 0
    for begin, end in zip(edges, edges[1:], strict=False):
        while at_take < len(takes) and takes[at_take].there <= begin:
            taken = max(takes[at_take].taken, taken or takes[at_take].taken)
            at_take += 1
        while at_plan < len(plans) and plans[at_plan].since <= begin:
            minutes = plans[at_plan].minutes
            at_plan += 1
        if end > begin:
            found.append(_Piece(begin, end, taken, target_of(minutes) or 0.0))
    return found


def _median(pieces: Sequence[_Piece]) -> float | None:
    """The age that the newest version did not exceed in half of the time."""
    half = sum(one.seconds for one in pieces) / 2
    if not half:
        return None
    slopes: list[tuple[float, int]] = []
    for one in pieces:
        slopes += [(one.low, 1), (one.high, -1)]
    slopes.sort()
    passed, at, open_now = 0.0, 0.0, 0
    for age, step in slopes:
        if passed + (age - at) * open_now >= half:
            break
        passed += (age - at) * open_now
        at, open_now = age, open_now + step
    return at + (half - passed) / open_now if open_now else at


def _gaps(judged: Sequence[_Piece]) -> list[Gap]:
    """One for each version that grew older than its target."""
    found: list[Gap] = []
    for one in judged:
        if one.taken is None or one.kept >= one.seconds:
            continue
        worst = one.high
        if found and found[-1].begin == one.taken:
            worst = max(worst, found.pop().worst_s)
        found.append(Gap(one.taken, one.end, worst))
    return found


def _begin(gap: Gap) -> datetime:
    return gap.begin
