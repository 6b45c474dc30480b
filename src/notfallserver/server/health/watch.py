"""Looks at the server itself now and then, in a thread of its own: what is asked may hang."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime

from notfallserver.server.authority import Authority
from notfallserver.server.cycle.means import Means
from notfallserver.server.health.facts import collect
from notfallserver.server.health.judge import Finding, Grade, judge, worst

log = logging.getLogger(__name__)

EVERY_S = 30.0


class HealthWatch:
    """What was found last; safe from threads."""

    def __init__(self, means: Means, authority: Authority) -> None:
        self._means = means
        self._authority = authority
        self._findings: tuple[Finding, ...] = ()
        self._at: datetime | None = None
        self._stopping = threading.Event()
        self._looked = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="health", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._looked.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Empty until everything was looked at once."""
        return self._findings

    @property
    def looked_at(self) -> datetime | None:
        return self._at

    @property
    def grade(self) -> Grade:
        return worst(self._findings)

    def await_first(self, seconds: float) -> None:
        """Wait until everything was looked at once, but not longer."""
        self._looked.wait(seconds)

    def look(self) -> None:
        """Look at everything now."""
        now = datetime.now(UTC)
        self._findings = judge(collect(self._means, self._authority), now)
        self._at = now
        self._looked.set()

    def _loop(self) -> None:
        while True:
            try:
                self.look()
            except Exception:
                log.exception("looking at the server itself failed")
            if self._stopping.wait(EVERY_S):
                return
