"""How fast one run may go: on the line, from the disks, and whether it holds still for a while.

The server's :class:`Allowance` comes with each answer to a message of progress. Rates and pauses
hold for hot passes and for sending; the frozen moment asks nobody.
"""

from __future__ import annotations

import threading
import time
from typing import Callable, Iterator, Sequence

from notfallserver.agent.bucket import Bucket
from notfallserver.agent.calm import Calm, Look, look
from notfallserver.agent.gauge import LineGauge
from notfallserver.wire.allowance import Allowance
from notfallserver.wire.blocks import Buffer
from notfallserver.wire.client import in_pieces

PIECE = 1 << 14
"""On a limited line: one record of TLS."""


class Pace:
    """One per run, shared by its threads. ``look`` tells how busy the machine is."""

    def __init__(self, look: Callable[[float], Look] = look) -> None:
        self._look = look
        self.gauge = LineGauge()
        self._line = Bucket()
        self._reading = Bucket()
        self._calm = Calm()
        self._go = threading.Event()
        self._go.set()
        self._closed = False
        self._expected = 0.0
        self._allowance = Allowance()

    def allow(self, allowance: Allowance) -> None:
        """From now on this holds, also for those that wait."""
        self._allowance = allowance
        if allowance.rate != self._line.rate:
            self.gauge.restart()
        self._line.set_rate(allowance.rate)
        self._reading.set_rate(allowance.read_rate)

    def expect(self, rate: object) -> None:
        """What the line gave in an earlier run, as far as the server knows."""
        if isinstance(rate, (int, float)) and rate > 0:
            self._expected = float(rate)

    def line_rate(self) -> float:
        """What the line gives now, in bytes a second; 0 = unknown."""
        seen = self.gauge.rate()
        if seen or not self._expected:
            return seen
        limit = self._line.rate
        return min(limit, self._expected) if limit else self._expected

    def pieces(self, body: Sequence[Buffer]) -> Iterator[Buffer]:
        """The parts of a request, each when the line may take it."""
        limited = self._line.rate > 0
        for piece in in_pieces(list(body), PIECE) if limited else in_pieces(list(body)):
            self._line.take(len(piece))
            self.gauge.passed(len(piece))
            yield piece

    def before_reading(self, length: int) -> None:
        """Return when a hot pass may read so much."""
        self._reading.take(length)
        while not self._closed and not self._go.wait(1.0):
            pass

    def watch(self, hot: bool) -> str:
        """About once a second: look how busy the machine is; returns why the run holds still."""
        if not hot or not self._allowance.pause_s:
            self._calm.forget()
            self._go.set()
            return ""
        held = self._calm.judge(self._look(time.monotonic()), self._allowance)
        if held:
            self._go.clear()
        else:
            self._go.set()
        return "" if held == "listen" else held

    def close(self) -> None:
        """The run is over: who waits, ends."""
        self._closed = True
        self._go.set()
        self._line.close()
        self._reading.close()
