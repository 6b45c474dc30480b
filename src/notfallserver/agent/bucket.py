"""A rate that several threads keep together.

A token bucket that may go into debt: who finds it above zero takes what it needs at once, and the
others wait until the debt is paid back. So pieces of any size pass, and in the mean the rate holds.
The rate may be changed at any time and acts on those that wait. Bytes and bytes a second.
"""

from __future__ import annotations

import threading
import time

from notfallserver.wire.errors import NotfallError

_SAVED_S = 0.25
"""What isn't used can be saved up for so long."""


class Bucket:
    """Rate 0 means no limit."""

    def __init__(self, rate: float = 0) -> None:
        self._changed = threading.Condition()
        self._rate = rate
        self._tokens = 0.0
        self._counted = time.monotonic()
        self._closed = False

    @property
    def rate(self) -> float:
        return self._rate

    def set_rate(self, rate: float) -> None:
        with self._changed:
            if rate != self._rate:
                self._count()
                self._rate = rate
                self._changed.notify_all()

    def take(self, length: int) -> None:
        """Return when so much may pass; raises when the bucket was closed."""
        with self._changed:
            while True:
                if self._closed:
                    raise NotfallError("cancelled", "The run has ended.", status=409)
                self._count()
                if not self._rate or self._tokens > 0:
                    break
                self._changed.wait(max(0.001, -self._tokens / self._rate))
            self._tokens -= length

    def _count(self) -> None:
        now = time.monotonic()
        if self._rate:
            saved = self._tokens + (now - self._counted) * self._rate
            self._tokens = min(saved, self._rate * _SAVED_S)
        else:
            self._tokens = 0.0
        self._counted = now

    def close(self) -> None:
        """Nobody waits any more: the run is over."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
