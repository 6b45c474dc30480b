"""Keeping a target close behind the working stand-in until the switch-back.

Each round captures the stand-in and has the target pull it. Rounds follow each other at once while
the delta shrinks; then the target is ready and a round follows now and then, so that the last delta
stays small.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from notfallserver.server.cycle.recovery.copying import Link
from notfallserver.server.cycle.runner import JobContext

SMALL = 64 << 20
"""A delta up to so many bytes is small enough for a switch-back."""
MOST_ROUNDS = 6
"""A stand-in that writes more than the line carries does not get closer with more rounds."""
SHUT_DOWN_S = 20.0
ADAPT_S = 30.0
"""What shutting down and adapting take, as a share of the predicted downtime."""


@dataclass(frozen=True)
class Closeness:
    """How close the target is behind; bytes, seconds, bytes a second."""

    round: int
    version: str
    written: int
    seconds: float
    ready: bool
    predicted_downtime_s: float
    rate: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def keep_up(
    ctx: JobContext,
    link: Link,
    take_capture: Callable[[], str],
    tell: Callable[[Closeness], None],
    handed_over: Callable[[], bool],
    pause_s: float,
) -> Closeness:
    """Go on until ``handed_over`` says that the switch-back takes over; then the last closeness."""
    number, rate, before = 0, 0.0, 0
    while True:
        number += 1
        ctx.progress("capturing the stand-in")
        pulled = link.pull(ctx, take_capture(), final=False)
        if pulled.written > SMALL or not rate:
            rate = pulled.written / max(pulled.seconds, 0.1)
        shrinking = number == 1 or pulled.written < before // 2
        ready = pulled.written <= SMALL or number >= MOST_ROUNDS or not shrinking
        before = pulled.written
        closeness = Closeness(
            round=number,
            version=pulled.version,
            written=pulled.written,
            seconds=round(pulled.seconds, 1),
            # The first round copies everything: only the next one tells how much is left.
            ready=ready and number > 1,
            predicted_downtime_s=round(SHUT_DOWN_S + pulled.seconds + ADAPT_S, 1),
            rate=round(rate),
        )
        tell(closeness)
        until = time.monotonic() + (pause_s if closeness.ready else 0)
        while not handed_over() and time.monotonic() < until:
            left = until - time.monotonic()
            ctx.progress("ready to switch back", 0, 0)
            ctx.sleep(min(1.0, max(left, 0.05)))
        if handed_over():
            return closeness
