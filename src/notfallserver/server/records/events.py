"""What changed, told to whoever listens: pages follow it, nothing depends on it.

Events are typed and come after the change is durable. A listener is called in the thread that made
the change and must return at once; what it raises is logged and goes no further.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobChanged:
    job: str
    primary: str | None
    kind: str


@dataclass(frozen=True)
class PrimaryChanged:
    primary: str


@dataclass(frozen=True)
class PrimaryHeard:
    """Its agent called and told nothing new: with many servers that is most of all that happens."""

    primary: str


@dataclass(frozen=True)
class TargetChanged:
    target: str


@dataclass(frozen=True)
class SessionsEnded:
    """Of one person, or by a rule that holds for everybody."""


Event = JobChanged | PrimaryChanged | PrimaryHeard | TargetChanged | SessionsEnded
Listener = Callable[[Event], None]


class EventBus:
    """Hands every event to all listeners; safe from threads."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._lock = threading.Lock()

    def tell(self, event: Event) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            try:
                listener(event)
            except Exception:
                log.exception("a listener failed on %s", event)

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """``listener`` hears what happens inside the block."""
        with self._lock:
            self._listeners.append(listener)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.remove(listener)
