"""No knowledge of changes: whatever is in use must be read again while frozen."""

from __future__ import annotations

from notfallserver.agent.changes.base import Changes, Marks


class Unknown(Changes):
    """Used where the kernel offers no tracker; ``why`` says what it lacks."""

    knows = False

    def __init__(self, why: str) -> None:
        self.why = why

    def take(self) -> Marks:
        return []

    def pending(self) -> Marks:
        return []
