"""Which primaries shall replicate now: the answer to an agent's poll."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

from notfallserver.wire.errors import NotfallError


@dataclass(frozen=True)
class Errand:
    """The job that waits for a replication: a deep one, or the ``last`` one of a handover."""

    job: str
    deep: bool = False
    last: bool = False

    def to_json(self) -> dict[str, Any]:
        """As an agent is told."""
        order = "hand-over" if self.last else "replicate"
        return {"order": order, "job": self.job, "deep": self.deep}


class Orders:
    """What the agents of primaries shall do next. Thread-safe; empty after a restart."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._jobs: dict[str, Errand] = {}
        self._failed: dict[str, NotfallError] = {}

    def give(self, primary: str, errand: Errand) -> None:
        with self._changed:
            self._jobs[primary] = errand
            self._failed.pop(primary, None)
            self._changed.notify_all()

    def withdraw(self, primary: str) -> None:
        with self._changed:
            self._jobs.pop(primary, None)

    def failed(self, primary: str, error: NotfallError) -> None:
        """The agent took the order, but could not even begin."""
        with self._changed:
            if primary in self._jobs:
                self._failed[primary] = error

    def failure(self, primary: str) -> NotfallError | None:
        """Why the agent did not begin, as far as it told; told once."""
        with self._changed:
            return self._failed.pop(primary, None)

    def wait(self, primary: str, seconds: float) -> Errand | None:
        """What there is to do, or None after ``seconds``."""
        with self._changed:
            self._changed.wait_for(lambda: primary in self._jobs, timeout=seconds)
            return self._jobs.get(primary)

    @staticmethod
    def rest(seconds: float) -> None:
        """Hold a poll that has nothing to wait for, so that it comes no more often than others."""
        time.sleep(seconds)
