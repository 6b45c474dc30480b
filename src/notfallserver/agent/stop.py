"""Leaving at once when asked to (SIGTERM, SIGINT), except while filesystems are frozen.

Outside of a critical section the signal raises :class:`Stopped` in the main thread wherever it is;
inside it only :meth:`Stop.asked` becomes true, and leaving the section raises, in the thread that
was in it and in the main thread. Other threads leave when they ask.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import Iterator


class Stopped(BaseException):
    """The agent was asked to leave. No error: nothing that catches errors may swallow it."""


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


class Stop:
    """One per process."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._critical = 0
        self._listens = False
        self._leaving = False
        """The main thread knows."""

    def listen(self) -> None:
        """Take over the signals; only in the main thread."""
        self._listens = True
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._event.set()
        if not self._critical:
            self.check()

    def ask(self) -> None:
        """As the signals do; from any thread. The main one leaves when it comes to ask."""
        self._event.set()

    @property
    def asked(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        if self._event.is_set():
            self._leaving |= _is_main()
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Sleep, but not longer than until asked to leave."""
        self._event.wait(seconds)
        self.check()

    @contextmanager
    def critical(self) -> Iterator[None]:
        """Within the block nobody is interrupted. One thread at a time."""
        self._critical += 1
        try:
            yield
        finally:
            self._critical -= 1
        if not self._critical and self.asked:
            if self._listens and not self._leaving and not _is_main():
                os.kill(os.getpid(), signal.SIGTERM)  # the main thread was spared
            self.check()
