"""What the agent knows of the server's newest version, and what was written since.

``since`` is the stamp of the version for which every later write is known. A run that fails
loses nothing: marks stay pending until a version holds them. Knowledge ends with the process, when
disks or partitions change, or when the tracker reports a gap.
"""

from __future__ import annotations

from typing import List, Sequence, Tuple

from notfallserver.agent.changes.base import Changes, Marks, Watched, merge
from notfallserver.agent.changes.none import Unknown
from notfallserver.agent.changes.tracker import Tracker
from notfallserver.agent.disks.base import Protected, kernel_device
from notfallserver.agent.disks.runs import intersect
from notfallserver.wire.blocks import Run


def watch(disks: Sequence[Protected]) -> Changes:
    """The best source of changes that this kernel offers."""
    watched = []
    for one in disks:
        devices = {kernel_device(one.device), *(kernel_device(part.device) for part in one.volumes)}
        watched.append(Watched(tuple(sorted(devices)), one.blocks, one.queued))
    try:
        return Tracker(watched)
    except OSError as error:
        return Unknown(str(error))


class Ledger:
    """One per process, for one layout of disks."""

    def __init__(self, disks: Sequence[Protected], changes: Changes) -> None:
        self.layout: Tuple[Protected, ...] = tuple(disks)
        self.changes = changes
        self.since = ""
        self.held: List[List[Run]] = []
        """Blocks of which the version ``since`` (or unfinished work on it) has the content."""
        self._pending: Marks = []

    @property
    def knows(self) -> bool:
        return self.changes.knows

    def fits(self, disks: Sequence[Protected]) -> bool:
        return self.layout == tuple(disks) and not self.changes.broken()

    def restart(self) -> None:
        """Forget everything: a run that reads all follows."""
        self.changes.take()
        self.since, self.held, self._pending = "", [], []

    def take(self) -> Marks:
        """Blocks written since the last call (or on their way then); they stay pending."""
        marks = self.changes.take()
        pending = self._pending or marks
        self._pending = [merge(one, other) for one, other in zip(pending, marks)]
        return marks

    def pending(self) -> Marks:
        """Blocks written since the version ``since``."""
        return self._pending

    def lose(self, used: Sequence[Sequence[Run]]) -> None:
        """The server was told to forget what is not in use."""
        self.held = [intersect(one, other) for one, other in zip(self.held, used)]

    def seal(self, stamp: str, used: List[List[Run]]) -> None:
        """A version holds everything up to the last :meth:`take`."""
        self.since = stamp if self.knows else ""
        self.held, self._pending = used, []

    def close(self) -> None:
        self.changes.close()
