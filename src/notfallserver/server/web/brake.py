"""Slows guessing of passwords and codes, and locks nobody out who was here before.

Tries are counted per address, and per name so that many addresses together can't guess either. A
name's count alone would let anybody lock the administrator out on the worst day. So a browser gets
a mark with its first login (OWASP calls it a device cookie), and one that shows it for the name it
types is counted by itself only. Pure but for the clock; safe from threads.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from notfallserver.wire.errors import NotfallError

SHORT_TRIES, SHORT_S = 8, 300.0
DAY_TRIES, DAY_S = 50, 86400.0
NAME_BUCKETS = 1 << 14
"""Names are counted by a hash, so that invented ones can't fill the memory."""


@dataclass(frozen=True)
class Visitor:
    """Who tries: the address, and the mark that the browser shows ("" for none)."""

    address: str
    mark: str


class Brake:
    """Counts tries before they are checked, so that tries at once can't slip through."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tries: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def charge(self, name: str, visitor: Visitor, key: bytes) -> bool:
        """Count a try, or refuse it; returns whether it was the last that is let through.

        ``key`` signs the marks.
        """
        counted = _buckets(name, visitor, key)
        with self._lock:
            moment = self._clock()
            self._forget(moment)
            for one in counted:
                if refusal := _refusal(one, self._tries.get(one, deque()), moment):
                    raise refusal
            for one in counted:
                self._tries.setdefault(one, deque(maxlen=DAY_TRIES)).append(moment)
            return any(_refusal(one, self._tries[one], moment) for one in counted)

    def forgive(self, name: str, visitor: Visitor, key: bytes, tries: int = 1) -> None:
        """Take the newest tries back: they were right."""
        with self._lock:
            for one in _buckets(name, visitor, key):
                for _ in range(min(tries, len(self._tries.get(one, ())))):
                    self._tries[one].pop()

    def release(self, name: str) -> None:
        """An administrator gave a new password: whoever has it may use it from anywhere."""
        bucket = _name_bucket(name)
        with self._lock:
            for one in [one for one in self._tries if one.startswith(bucket)]:
                del self._tries[one]

    def _forget(self, moment: float) -> None:
        for one in [one for one, times in self._tries.items() if _is_over(one, times, moment)]:
            del self._tries[one]


def make_mark(name: str, key: bytes) -> str:
    """For the browser that has logged in with this name."""
    number = secrets.token_hex(16)
    return f"{number}.{_sign(name, number, key)}"


def is_marked(name: str, mark: str, key: bytes) -> bool:
    """Whether this server gave the mark for this name."""
    number, _, signature = mark.partition(".")
    return hmac.compare_digest(signature.encode(), _sign(name, number, key).encode())


def _sign(name: str, number: str, key: bytes) -> str:
    return hmac.new(key, f"{number}\n{name}".encode(), hashlib.sha256).hexdigest()


def _buckets(name: str, visitor: Visitor, key: bytes) -> list[str]:
    if is_marked(name, visitor.mark, key):
        return [f"{_name_bucket(name)}{visitor.mark}"]
    return [f"address {_network(visitor.address)}", _name_bucket(name)]


def _name_bucket(name: str) -> str:
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % NAME_BUCKETS
    return f"name {number} "


def _network(address: str) -> str:
    """A household has 2**64 addresses of IPv6."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 6 and found.is_global:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return address


def _is_over(bucket: str, times: deque[float], moment: float) -> bool:
    lasts = DAY_S if bucket.startswith("name") else SHORT_S
    return not times or moment - times[-1] >= lasts


def _refusal(bucket: str, times: deque[float], moment: float) -> NotfallError | None:
    """A day's count is for names only: many people may come from one address."""
    lately = sum(moment - one < SHORT_S for one in times)
    today = sum(moment - one < DAY_S for one in times)
    if bucket.startswith("name") and today >= DAY_TRIES:
        return NotfallError(
            "too-many-tries-today",
            "Too many wrong tries within a day.",
            "Use a browser that has logged in before, or ask an administrator for a new password.",
            retry=True,
            status=429,
        )
    if lately >= SHORT_TRIES:
        return NotfallError(
            "too-many-tries", "Too many wrong tries.", "Wait five minutes.", retry=True, status=429
        )
    return None
