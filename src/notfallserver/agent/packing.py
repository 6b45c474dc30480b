"""Whether packing pays: measured on the line, not guessed.

A fast line is faster without packing, above all where only zlib is there; a slow one with it. Both
ways are timed on real frames (seconds per byte of content, packing included); the better one is
used and the other one tried again more and more seldom. Thread-safe.
"""

from __future__ import annotations

import threading
from typing import Dict

from notfallserver.wire.frames import PLAIN

_SMALL = 1 << 18  # frames below this say little about the line, in bytes
_FIRST, _MOST = 32, 1024  # frames between two comparisons
_SHARE = 0.3  # weight of the newest measurement


class Packing:
    """Chooses between no packing and ``codec``, which both sides have."""

    def __init__(self, codec: int) -> None:
        self._codec = codec
        self._cost: Dict[int, float] = {}
        self._lock = threading.Lock()
        self._left = 0
        self._pause = _FIRST

    def choose(self, length: int) -> int:
        """The codec for the next frame with ``length`` bytes of content."""
        with self._lock:
            if self._codec == PLAIN or length < _SMALL:
                return self._better()
            for one in (PLAIN, self._codec):
                if one not in self._cost:
                    return one
            self._left -= 1
            better = self._better()
            if self._left > 0:
                return better
            self._left, self._pause = self._pause, min(2 * self._pause, _MOST)
            return self._codec if better == PLAIN else PLAIN

    def _better(self) -> int:
        """What is known to be better; packed as long as nothing is known."""
        plain, packed = self._cost.get(PLAIN), self._cost.get(self._codec)
        return PLAIN if plain is not None and packed is not None and plain < packed else self._codec

    def measured(self, codec: int, length: int, seconds: float) -> None:
        if length < _SMALL:
            return
        cost = seconds / length
        with self._lock:
            before = self._cost.get(codec, cost)
            self._cost[codec] = before + _SHARE * (cost - before)
            if not self._left:
                self._left = self._pause
