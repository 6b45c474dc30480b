"""What the line gives, measured while something is on it.

Time counts from the first of several overlapping sendings to the last answer; bytes when they are
handed to the kernel, answers included in the time, so what still lies in buffers has arrived when
the time ends. Old measurements fade.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import Callable, Iterator

_FADE_S = 30.0
_LEAST_S, _LEAST = 0.5, 1 << 20


class LineGauge:
    """Thread-safe; ``clock`` in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._under_way = 0
        self._since = 0.0
        self._busy = 0.0
        self._bytes = 0.0

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Around one request that is large enough to say something about the line."""
        with self._lock:
            self._settle()
            self._under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._settle()
                self._under_way -= 1

    def passed(self, length: int) -> None:
        """So many bytes were handed over; small requests alone on the line tell nothing."""
        with self._lock:
            if self._under_way:
                self._bytes += length

    def restart(self) -> None:
        """What was measured holds no longer: the limit is another one."""
        with self._lock:
            self._settle()
            self._busy = self._bytes = 0.0

    def _settle(self) -> None:
        now = self._clock()
        if self._under_way:
            self._busy += now - self._since
        self._since = now
        if self._busy > _FADE_S:
            keep = _FADE_S / 2 / self._busy
            self._busy, self._bytes = self._busy * keep, self._bytes * keep

    def rate(self) -> float:
        """Bytes a second; 0 while too little was sent to tell."""
        with self._lock:
            self._settle()
            enough = self._busy >= _LEAST_S and self._bytes >= _LEAST
            return self._bytes / self._busy if enough else 0.0
