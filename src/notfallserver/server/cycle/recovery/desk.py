"""The desk at which targets report and take orders.

A target is known by its secret; a person connects it with a recovery by the pairing code on its
console. Orders live in memory: after a restart of the server the job gives them again, and a target
that has done an order already says so at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from notfallserver.wire.errors import NotfallError

NO_ORDER: dict[str, Any] = {"order": "none"}
POLL_SECONDS = 5.0
LOST_AFTER = 60.0
"""A target that has not polled for so many seconds is taken for lost."""


@dataclass
class Seat:
    """One target as the desk sees it."""

    order: dict[str, Any] = field(default_factory=lambda: NO_ORDER)
    told: bool = True  # whether the target took this order already
    report: dict[str, Any] = field(default_factory=dict)
    heard: float = 0.0
    primary: str = ""  # whose versions it may read


class Desk:
    """Orders out, reports in. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._changed = threading.Condition()
        self._seats: dict[str, Seat] = {}
        self._clock = clock

    def _seat(self, target: str) -> Seat:
        return self._seats.setdefault(target, Seat(heard=self._clock()))

    # -- the target's side -----------------------------------------------------------------------

    def poll(
        self, target: str, report: dict[str, Any], wait: float = POLL_SECONDS
    ) -> dict[str, Any]:
        """Take a report; answer a new order at once, or the present one after a while."""
        with self._changed:
            seat = self._seat(target)
            seat.heard = self._clock()
            seat.report = report
            self._changed.notify_all()
            busy = report.get("state") in ("pulling", "adapting")
            self._changed.wait_for(lambda: not seat.told, timeout=min(wait, 0.5) if busy else wait)
            seat.told = True
            seat.heard = self._clock()
            return seat.order

    def may_read(self, target: str, paired: bool) -> str:
        """The primary whose versions this target may read.

        A target that is ``paired`` waits: the server was restarted, and its job has not yet given
        the order again.
        """
        with self._changed:
            primary = self._seat(target).primary
            self._seat(target).heard = self._clock()
        if not primary and paired:
            raise NotfallError(
                "order-comes",
                "The recovery is about to begin or to go on.",
                "Ask again in a moment.",
                retry=True,
                status=503,
            )
        if not primary:
            raise NotfallError(
                "not-paired",
                "Nobody has connected this machine with a recovery.",
                "Give the code on its console to 'notfall recover'.",
                status=403,
            )
        return primary

    # -- the job's side --------------------------------------------------------------------------

    def give(self, target: str, order: dict[str, Any], primary: str = "") -> None:
        with self._changed:
            seat = self._seat(target)
            seat.order, seat.told, seat.primary = order, False, primary
            self._changed.notify_all()

    def report(self, target: str) -> dict[str, Any]:
        with self._changed:
            return self._seat(target).report

    def silence(self, target: str) -> float:
        """Seconds since the target was heard."""
        with self._changed:
            return self._clock() - self._seat(target).heard

    def wait_report(self, target: str, seconds: float) -> dict[str, Any]:
        """The next report, or the last one after ``seconds``."""
        with self._changed:
            before = self._seat(target).report
            self._changed.wait_for(lambda: self._seat(target).report is not before, timeout=seconds)
            return self._seat(target).report
