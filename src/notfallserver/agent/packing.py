"""How to pack each frame: by what the line gives and by what the content gives, both measured.

Three questions, cheapest first.
1. Does packing pay on this line? Not when it takes more than a quarter of the processors can pack.
   When sending a packed frame takes far longer than packing it, of course. Else both ways are timed
   on real frames (seconds per byte of content, packing and sending), the better one is used and the
   other one tried again more and more seldom; that also counts what no formula knows, such as a
   server on the same processors, or a primary that encrypts more slowly than it packs.
2. Does this frame's content pack? Asked of a sample; what doesn't goes plain.
3. How hard? A sample is packed on each level now and then; the level is taken that brings most
   content over the line while packing takes at most half of the processors.
Thread-safe.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from notfallserver.wire.blocks import Buffer
from notfallserver.wire.frames import PLAIN, XZ, ZLIB, ZSTD, pack

Way = Tuple[int, int]
"""Codec and level."""
_PLAIN: Way = (PLAIN, 0)
LADDER: Dict[int, List[Way]] = {
    ZSTD: [(ZSTD, 1), (ZSTD, 3), (ZSTD, 6)],
    ZLIB: [(ZLIB, 1), (ZLIB, 4), (XZ, 0), (XZ, 1)],
}
"""From quick to thorough. Higher levels gain next to nothing, or take memory; xz packs far better
than zlib and is as slow as thin lines are."""

_SMALL = 1 << 18  # frames below this say little about the line, in bytes
_FIRST, _MOST = 32, 1024  # frames between two comparisons
_LOOK_SHARE = 0.03  # looking at the levels takes at most this share of a thread's time
_CLEAR = 4  # sending so many times longer than packing: the line is the limit
_FAST = 25e6  # a line below this, in bytes a second, is never too fast to pack for
_USUAL_SPEED = 100e6  # until it is measured: a short run on a fast line has no time to find out
_SHARE = 0.3  # weight of the newest measurement
_PIECES, _PIECE = 8, 1 << 12  # the sample that tells whether content packs at all
_SAMPLES, _SAMPLE = 4, 1 << 16  # the sample that levels are compared on
_PACKS = 0.93  # packed to more than this it isn't worth it
_SHORT = 1 / 3  # waiting for a processor so much of the time that packing takes
_GAIN = 1.03  # a more thorough level must bring so much more


@dataclass(frozen=True)
class Yield:
    """What a way does to content: packed size / size, seconds of one thread per byte."""

    share: float
    seconds: float


def best_way(ladder: Sequence[Way], yields: Mapping[Way, Yield], line: float, threads: int) -> Way:
    """The way that brings most content over the line; of equals the quicker one (pure).

    ``line`` in bytes a second, 0 = unknown: then the quickest.
    """
    best, most = ladder[0], 0.0
    for way in ladder if line else ():
        got = yields.get(way)
        if got is None:
            continue
        over = min(line / max(got.share, 1e-3), threads / 2 / max(got.seconds, 1e-12))
        if over > most * _GAIN:
            best, most = way, over
    return best


def sample_share(payload: Buffer, way: Way) -> float:
    """Packed size / size of some pieces spread over the content."""
    whole = _spread(payload, _PIECES, _PIECE)
    return len(pack(way[0], whole, way[1])[1]) / max(1, len(whole))


def _spread(payload: Buffer, pieces: int, length: int) -> bytes:
    """Some pieces from everywhere in the content."""
    view = memoryview(payload)
    step = max(length, len(view) // pieces)
    return b"".join([view[at : at + length] for at in range(0, len(view), step)][:pieces])


class Packing:
    """Chooses a way for each frame. ``codecs`` are those that both sides have, ``threads`` pack at
    the same time, ``line`` tells its rate in bytes a second."""

    def __init__(
        self,
        codec: int,
        codecs: Sequence[int],
        threads: int,
        line: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ladder = [one for one in LADDER.get(codec, []) if one[0] in {codec, *codecs}]
        self._threads = threads
        self._line = line
        self._clock = clock
        self._way = self._ladder[0] if self._ladder else _PLAIN
        self._yields: Dict[Way, Yield] = {}
        self._cost: Dict[bool, float] = {}  # by whether it was packed
        self._clear = False
        self._waiting = 0.0  # share of the time for packing that went by without a processor
        self._speed = _USUAL_SPEED  # bytes of content that one thread packs in a second
        self._lock = threading.Lock()
        self._left = 0
        self._pause = _FIRST
        self._next_look = 0.0

    @property
    def way(self) -> Way:
        """What is used for content that packs; plain where packing doesn't pay."""
        return self._way if self._better() else _PLAIN

    def choose(self, payload: Buffer) -> Way:
        """How to pack the next frame."""
        if not self._ladder or not self._turn(len(payload)):
            return _PLAIN
        if len(payload) >= _SMALL:
            if sample_share(payload, self._ladder[0]) > _PACKS:
                return _PLAIN
            self._look_at_levels(payload)
        return self._way

    def _turn(self, length: int) -> bool:
        """Whether to try packing: it is better, or has to be compared again."""
        with self._lock:
            if length < _SMALL or (self._clear and self._better()):
                return self._better()
            for one in (True, False):
                if one not in self._cost:
                    return one and not self._is_fast()
            self._left -= 1
            if self._left > 0:
                return self._better()
            self._left, self._pause = self._pause, min(2 * self._pause, _MOST)
            return not self._better()

    def _is_fast(self) -> bool:
        """Whether the line takes more than a quarter of the processors can pack."""
        return self._line() > max(_FAST, self._speed * self._threads / 4)

    def _better(self) -> bool:
        """Whether packing is better; true as long as nothing is known."""
        if self._is_fast():
            return False
        plain, packed = self._cost.get(False), self._cost.get(True)
        return self._clear or plain is None or packed is None or packed <= plain

    def _look_at_levels(self, payload: Buffer) -> None:
        """Now and then measure each level on this content and settle on one."""
        line = self._line()
        with self._lock:
            now = self._clock()
            if not line or len(self._ladder) < 2 or now < self._next_look:
                return
            self._next_look = float("inf")  # one thread is enough
        sample = _spread(payload, _SAMPLES, _SAMPLE)
        looked = time.perf_counter()
        for way in self._ladder:
            began = time.perf_counter()
            _, packed = pack(way[0], sample, way[1])
            seconds = (time.perf_counter() - began) / len(sample)
            got = Yield(len(packed) / len(sample), seconds)
            if got.share > _PACKS:  # a sample that doesn't pack tells nothing about levels
                break
            with self._lock:
                self._yields[way] = _mean(self._yields.get(way), got)
        with self._lock:
            self._next_look = now + (time.perf_counter() - looked) / _LOOK_SHARE
            short = self._waiting > _SHORT and not self._clear
            known = 0.0 if short else line
            self._way = best_way(self._ladder, self._yields, known, self._threads)

    def measured(
        self, packed: bool, length: int, pack_s: float, send_s: float, waited_s: float = 0.0
    ) -> None:
        """A frame with ``length`` bytes of content took so long to pack and to send.

        ``waited_s`` of the seconds for packing went by while others had the processors.
        """
        if length < _SMALL:
            return
        cost = (pack_s + send_s) / length
        with self._lock:
            if packed:
                self._clear = send_s > _CLEAR * pack_s
                speed = length / max(pack_s, 1e-6)
                self._speed += _SHARE * (speed - self._speed)
                self._waiting += _SHARE * (waited_s / max(pack_s, 1e-6) - self._waiting)
            before = self._cost.get(packed, cost)
            self._cost[packed] = before + _SHARE * (cost - before)
            if self._left <= 0:
                self._left = self._pause


def _mean(before: Optional[Yield], got: Yield) -> Yield:
    if before is None:
        return got
    return Yield(
        before.share + _SHARE * (got.share - before.share),
        before.seconds + _SHARE * (got.seconds - before.seconds),
    )
