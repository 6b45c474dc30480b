"""What the agent knows of the server's newest version, and what was written since.

``since`` is the stamp of the version for which every later write is known. A run that fails
loses nothing: marks stay pending until a version holds them. Knowledge ends with the boot, when
disks or partitions change, or when the tracker reports a gap.

It does not end with the process where the tracker can be pinned (Linux 5.15): then the marks are
in kernel memory (``tracker.py``) and the rest is in a record (``state.py``). Invariant, wherever
the agent is killed: if there is a record that names a version, then every block written since that
version is marked, and the record's ``held`` has only blocks of which the version, or unfinished
work on it, has the content. So marks are forgotten after the record names the new version, and
``held`` shrinks before the server is told to forget. What that leaves:

    killed                                        the next agent finds
    taking marks, sending, frozen                 the old version, and more marks than needed
    while the server seals                        the old version and the run that was to be
                                                  sealed: it asks which version came of it; if
                                                  the server does not remember, its base is
                                                  another one, and everything is read
    after the record, before marks are forgotten  the new version, and more marks than needed
    while a tracker is made or dropped            no record, so a new tracker is made

Over a reboot ``reboot.py`` carries what was known; the new tracker then takes all that is not
provably unchanged for written.

One process at a time works with record and pins, the one that holds the lock; a second one has
a tracker of its own, and what it seals makes the first one read everything.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from typing import List, Optional, Sequence, Tuple

from notfallserver.agent.changes.base import Changes, Marks, Watched, granules
from notfallserver.agent.changes.keeping import Keeping
from notfallserver.agent.changes.kept import KeptFiles
from notfallserver.agent.changes.reboot import keep, recall
from notfallserver.agent.changes.rule import Rule
from notfallserver.agent.changes.state import State, layout_mark
from notfallserver.agent.changes.tracker import Tracker
from notfallserver.agent.disks.base import Protected, kernel_device
from notfallserver.agent.disks.runs import intersect
from notfallserver.agent.place import Place, boot_id
from notfallserver.wire.blocks import Run

log = logging.getLogger("notfall-agent")


def watched_of(disks: Sequence[Protected]) -> List[Watched]:
    """The same disks as the kernel numbers them."""
    watched = []
    shared = granules([one.blocks for one in disks])
    for one, granule in zip(disks, shared):
        parts = sorted(kernel_device(part.device) for part in one.volumes if part.number)
        devices = (kernel_device(one.device), *parts)
        watched.append(Watched(devices, one.blocks, one.queued, granule))
    return watched


class Ledger:
    """One per process, for one layout of disks; ``state`` and ``keeping`` if it outlives it."""

    def __init__(
        self,
        disks: Sequence[Protected],
        changes: Changes,
        state: Optional[State] = None,
        keeping: Optional[Keeping] = None,
    ) -> None:
        self.layout: Tuple[Protected, ...] = tuple(disks)
        self.changes = changes
        self._state = state
        self._keeping = keeping
        self.since = state.since if state else ""
        self.held: List[List[Run]] = state.held if state else []
        """Blocks of which the version ``since`` (or unfinished work on it) has the content."""
        self.sealing = state.sealing if state else ""
        """The run that the server was asked to seal, as long as the answer is not known."""
        self._promised: List[List[Run]] = state.promised if state else []

    @property
    def knows(self) -> bool:
        return self.changes.knows

    def unfit(self, disks: Sequence[Protected]) -> str:
        """Why it says nothing of these disks any more; empty where it does."""
        if self.layout != tuple(disks):
            return "disks or partitions changed"
        return self.changes.broken()

    def restart(self) -> None:
        """Forget everything: a run that reads all follows."""
        self.changes.take()
        self.distrust()

    def distrust(self) -> None:
        """What is known is wrong: the next run begins with :meth:`restart`."""
        self.since, self.held = "", []
        self._record()

    def take(self) -> Marks:
        """Blocks written since the last call (or on their way then); they stay pending."""
        return self.changes.take()

    def pending(self) -> Marks:
        """Blocks written since the version ``since``."""
        return self.changes.pending()

    def lose(self, used: Sequence[Sequence[Run]]) -> None:
        """The server will be told to forget what is not in use."""
        self.held = [intersect(one, other) for one, other in zip(self.held, used)]
        self._record()

    def promise(self, run: str, used: List[List[Run]]) -> None:
        """The server will be asked to seal ``run``: everything up to the last :meth:`take`.

        No more is taken until :meth:`seal` or :meth:`withdraw`.
        """
        self.sealing, self._promised = run, used
        self._record()

    def withdraw(self) -> None:
        """Nothing is known of a version that came of the promise."""
        self.sealing, self._promised = "", []
        self._record()

    def seal(self, stamp: str) -> None:
        """What was promised is this version."""
        self.since = stamp if self.changes.remembers else ""
        self.held = self._promised
        self.withdraw()
        self.changes.forget()

    def _record(self) -> None:
        if self._keeping is not None and self._state is not None:
            self._state = replace(
                self._state,
                since=self.since,
                held=self.held,
                sealing=self.sealing,
                promised=self._promised,
            )
            self._keeping.write(self._state)

    @property
    def pinned(self) -> bool:
        """Whether it outlives the process."""
        return self._keeping is not None

    def keep(self, place: Place, primary: str, down: bool) -> bool:
        """Write down what would end with the boot (``down``) or the process. No run may follow."""
        if not self.knows or not self.since or self.sealing:
            return False
        return keep(self.layout, place, primary, self.since, self.held, self.changes, down)

    def close(self) -> None:
        """What is pinned goes on."""
        self.changes.close()
        if self._keeping is not None:
            self._keeping.close()
            self._keeping = None


def open_ledger(disks: Sequence[Protected], place: Place, primary: str) -> Ledger:
    """What is known of these disks: from an earlier process, or from now on."""
    wanted = State(boot_id(), primary, layout_mark(disks))
    keeping: Optional[Keeping] = None
    try:
        keeping = Keeping(place)
        return _kept_ledger(disks, place, keeping, wanted)
    except OSError as error:
        log.warning("what is known of the disks will end with this process: %s", error)
        if keeping is not None:
            with suppress(OSError):
                keeping.drop()
            keeping.close()
    try:
        tracker = Tracker(watched_of(disks))
    except OSError as error:
        return Ledger(disks, Rule(str(error), disks, place))
    # Without the lock the record is another process's.
    return Ledger(disks, tracker, _recalled(wanted, disks, place, tracker) if keeping else None)


def _kept_ledger(
    disks: Sequence[Protected], place: Place, keeping: Keeping, wanted: State
) -> Ledger:
    watched = watched_of(disks)
    found = keeping.resume(wanted, watched)
    if found is not None:
        KeptFiles(place.kept).drop()  # the machine did not go down, or this is older
        return Ledger(disks, found[1], found[0], keeping)
    keeping.drop()
    tracker = Tracker(watched)
    try:
        begun = keeping.begin(wanted, tracker)
    except OSError:
        tracker.close()
        raise
    state = _recalled(begun, disks, place, tracker)
    keeping.write(state)
    return Ledger(disks, tracker, state, keeping)


def _recalled(state: State, disks: Sequence[Protected], place: Place, tracker: Tracker) -> State:
    """The same with what was known in an earlier boot, if that can be used."""
    known = recall(disks, place, state.primary, tracker)
    if known is None:
        return state
    tracker.assume(known.written)
    return replace(state, since=known.since, held=known.held)
