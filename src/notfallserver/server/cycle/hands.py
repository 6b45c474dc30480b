"""Who may switch a stand-in just now: one at a time for each primary.

Held for as long as one switches or clones, not while one waits: whoever takes it looks again at how
things are. A move in the life cycle takes it, too, so that nothing is switched on after the move
that forbids it.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Hands:
    """One per server."""

    def __init__(self) -> None:
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)

    @contextmanager
    def on(self, primary: str) -> Iterator[None]:
        """Alone with the stand-in of ``primary`` inside this block."""
        with self._locks[primary]:
            yield
