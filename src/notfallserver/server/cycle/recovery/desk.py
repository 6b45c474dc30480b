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
    feeds: tuple[str, str] = ("", "")  # primary and run into which it may give its disks


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
        self, target: str, report: dict[str, Any], wait: float | None = None
    ) -> dict[str, Any]:
        """Take a report; answer a new order at once, or the present one after a while (None:
        :data:`POLL_SECONDS`)."""
        wait = POLL_SECONDS if wait is None else wait
        with self._changed:
            seat = self._seat(target)
            seat.heard = self._clock()
            seat.report = report
            self._changed.notify_all()
            busy = report.get("state") in ("pulling", "adapting", "giving")
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
            raise _order_comes()
        if not primary:
            raise NotfallError(
                "not-paired",
                "Nobody has connected this machine with a recovery.",
                "Give the code on its console to 'notfall recover'.",
                status=403,
            )
        return primary

    def may_feed(self, target: str, run: str, paired: bool) -> str:
        """The primary into whose run this target may give its disks; ``paired`` as above."""
        with self._changed:
            primary, known = self._seat(target).feeds
            self._seat(target).heard = self._clock()
        if primary and known == run:
            return primary
        if paired:
            raise _order_comes()
        raise NotfallError(
            "not-paired",
            "Nobody has asked for the disks of this machine.",
            "Give the code on its console to 'notfall import'.",
            status=403,
        )

    # -- the job's side --------------------------------------------------------------------------

    def give(self, target: str, order: dict[str, Any], primary: str = "") -> None:
        with self._changed:
            seat = self._seat(target)
            seat.order, seat.told, seat.primary = order, False, primary
            seat.feeds = ("", "")
            self._changed.notify_all()

    def orders_of(self, primary: str) -> list[dict[str, Any]]:
        """What targets that may read this primary's versions have been told, and what they tell."""
        with self._changed:
            seats = [one for one in self._seats.values() if one.primary == primary]
            return [told for one in seats for told in (one.order, one.report)]

    def take_from(self, target: str, order: dict[str, Any], primary: str, run: str) -> None:
        """As :meth:`give`, for an order by which it gives its disks; it may read nothing."""
        with self._changed:
            seat = self._seat(target)
            seat.order, seat.told, seat.primary = order, False, ""
            seat.feeds = (primary, run)
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


def _order_comes() -> NotfallError:
    return NotfallError(
        "order-comes",
        "The recovery is about to begin or to go on.",
        "Ask again in a moment.",
        retry=True,
        status=503,
    )
