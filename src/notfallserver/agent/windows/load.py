"""How busy this Windows is, in the words of ``calm.py``.

Windows has no load average. It is counted as Linux does: processors at work, and requests that wait
at a disk or are under way there, ours as well, on the average of the last minute. Since when
somebody has waited for a disk Windows does not count either; a disk that is at work while we hold
still works for others, and of several disks the busiest counts.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Deque, Dict, List, Optional, Sequence, Tuple

from notfallserver.agent.calm import Look
from notfallserver.agent.windows.answers import (
    DISK_PERFORMANCE,
    BadAnswer,
    Performance,
    read_performance,
)
from notfallserver.agent.windows.system import Handle, Refused, System, Times, asked, disk_path

MINUTE_S = 60.0
LEAST_S = 10.0
"""What was seen for a shorter time is no load: copies begin with what is busy for a moment."""


@dataclass(frozen=True)
class _Seen:
    at: float
    times: Times
    disks: Dict[int, Performance]


class Load:
    """One per run. What can't be asked counts as idle."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._handles: List[Tuple[int, Handle]] = []
        self._before: Optional[_Seen] = None
        self._minute: Deque[Tuple[float, float]] = deque()
        """Length in seconds and load of what was seen between two looks."""
        self._waited_us = 0

    def open(self, disks: Sequence[int]) -> None:
        """Whose work counts; until :meth:`close`."""
        for number in disks:
            with suppress(Refused):
                self._handles.append((number, self._system.open(disk_path(number))))

    def look(self, now: float) -> Look:
        """See :func:`notfallserver.agent.calm.look`."""
        seen = self._see(now)
        before, self._before = self._before, seen
        if before is not None and seen.at > before.at:
            self._minute.append((seen.at - before.at, _load(before, seen, self._system)))
            self._waited_us += _waited_us(before, seen)
            while sum(length for length, _ in self._minute) > MINUTE_S and len(self._minute) > 1:
                self._minute.popleft()
        return Look(now, self._average(), self._waited_us if seen.disks else None)

    def _average(self) -> float:
        whole = sum(length for length, _ in self._minute)
        if whole < LEAST_S:
            return 0.0
        return sum(length * load for length, load in self._minute) / whole

    def _see(self, now: float) -> _Seen:
        disks: Dict[int, Performance] = {}
        for number, handle in self._handles:
            with suppress(Refused, BadAnswer):
                disks[number] = read_performance(asked(handle, DISK_PERFORMANCE))
        times = Times(0, 0)
        with suppress(Refused):
            times = self._system.times()
        return _Seen(now, times, disks)

    def close(self) -> None:
        handles, self._handles = self._handles, []
        for _, handle in handles:
            handle.close()


def _load(before: _Seen, now: _Seen, system: System) -> float:
    passed = now.times.passed - before.times.passed
    idle = now.times.idle - before.times.idle
    busy = min(1.0, max(0.0, 1 - idle / passed)) if passed > 0 else 0.0
    return busy * system.processors() + sum(one.queued for one in now.disks.values())


def _waited_us(before: _Seen, now: _Seen) -> int:
    busy = [
        one.passed - before.disks[number].passed - (one.idle - before.disks[number].idle)
        for number, one in now.disks.items()
        if number in before.disks
    ]
    return max(0, max(busy, default=0)) // 10
