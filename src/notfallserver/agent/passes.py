"""Hot passes: read and send while the system works, and what is left after the frozen moment.

First everything in use (or, if the server has the version since which all writes are known, only
what was written since), then again what was written meanwhile, until little is left.
"""

from __future__ import annotations

from typing import Callable, Iterable, List, Optional, Sequence, Tuple

from notfallserver.agent.changes.base import Marks
from notfallserver.agent.changes.ledger import Ledger
from notfallserver.agent.config import Settings
from notfallserver.agent.deep import unexplained
from notfallserver.agent.disks.base import Protected
from notfallserver.agent.disks.direct import DirectDisk
from notfallserver.agent.disks.mounts import Mount, current_mounts, to_freeze
from notfallserver.agent.disks.runs import intersect, merged, subtract, total, whole
from notfallserver.agent.disks.used import Census, used_runs
from notfallserver.agent.freeze.linux import write_out
from notfallserver.agent.moment import Content, Used, all_batches
from notfallserver.agent.send import Batch, Sender
from notfallserver.agent.talk import Talk
from notfallserver.wire.blocks import BLOCK
from notfallserver.wire.frames import HOLE_RUNS


def _not_shown(_number: int, _done: int, _total: int) -> None:
    """Nobody looks."""


class Passes:
    """Of one run, on these disks (open in ``disks``)."""

    def __init__(
        self,
        settings: Settings,
        protected: Sequence[Protected],
        disks: Sequence[DirectDisk],
        ledger: Ledger,
        sender: Sender,
        talk: Talk,
    ) -> None:
        self._settings = settings
        self.protected = list(protected)
        self.disks = list(disks)
        self.ledger = ledger
        self.sender = sender
        self._talk = talk
        self.shown: Callable[[int, int, int], None] = _not_shown
        """Called when the server has answered a progress: number of the pass, bytes done, all."""
        self.unread: Optional[Marks] = None
        """Taken for a frozen moment that came to nothing: to be read hot before the next."""
        self.number = 0
        self._phase = "hot"
        self._total = 0
        self._seen: Used = [[] for _ in disks]
        """Blocks whose content was sent at least once, in this run or the version it builds on."""

    def groups(self) -> Tuple[List[Mount], List[List[Mount]]]:
        """All mounts, and those of the protected disks in the order of freezing."""
        mounts = current_mounts()
        return mounts, to_freeze(mounts, [one.device for one in self.protected])

    def count_used(self) -> Used:
        census = Census(self.disks, current_mounts())
        try:
            return used_runs(self.protected, census.free_space())
        finally:
            census.close()

    def run(self, tracked: bool, deep: bool) -> None:
        """All hot passes. ``tracked``: all writes since the server's version are known."""
        write_out(self.groups()[1])
        if not self.ledger.knows:
            self.sender.note_hashes()
        if tracked:
            self.ledger.take()
            self._seen = self.ledger.held
            wanted = used = self.count_used()
            if deep:
                self.sender.differing = [[] for _ in used]
            else:
                wanted = self._written_or_new(self.ledger.pending(), used)
        else:
            self.ledger.restart()
            wanted = self.count_used()
        self._pass(wanted)
        if not self.ledger.knows:
            return
        last = 0
        for _ in range(1, self._settings.hot_passes):
            amount = self.catch_up()
            if amount <= self._settings.frozen_mib * 4 or (last and amount > last * 3 // 4):
                return  # a quarter of the frozen buffer, or it doesn't shrink any more
            last = amount

    def catch_up(self) -> int:
        """A pass over what was written since the last one; how many blocks that were."""
        marks, self.unread = self.unread, None
        if marks is None:
            write_out(self.groups()[1])
            marks = self.ledger.take()
        wanted = self._written_or_new(marks, self.count_used())
        self._pass(wanted)
        return sum(total(runs) for runs in wanted)

    def must_read(self) -> Used:
        """While frozen: all that may be otherwise than it was sent."""
        self.unread = self.ledger.take()
        return [
            merged([*written, *disk.boot_areas()])
            for written, disk in zip(self.unread, self.protected)
        ]

    def like(self, other: Passes) -> bool:
        """Whether one frozen moment can serve both: the same disks, and all writes known."""
        known = self.ledger.knows and other.ledger.knows
        return known and self.protected == other.protected

    def _written_or_new(self, marks: Marks, used: Used) -> Used:
        """Marked blocks in use, and those in use whose content was never sent.

        ``used`` must be counted after the marks were taken: then what was marked is in use.
        """
        wanted = []
        for disk, runs in enumerate(used):
            written = intersect(marks[disk], runs)
            wanted.append(merged(written + subtract(runs, self._seen[disk])))
        return wanted

    def _pass(self, wanted: Used) -> None:
        self.number += 1
        self._send("hot", all_batches(wanted), wanted)
        self.sender.unasked = False
        self._seen = [merged([*one, *other]) for one, other in zip(self._seen, wanted)]

    def _send(self, phase: str, batches: Iterable[Batch], wanted: Used) -> None:
        self._phase = phase
        self._total = sum(total(runs) for runs in wanted) * BLOCK
        self.sender.send_all(batches, self.tick)
        self.tick()

    def enter(self, phase: str) -> None:
        """The server is told that the run is in this phase now."""
        self._phase = phase
        self.tick()

    def tick(self) -> None:
        """Tell the progress; leave when asked to. About once a second."""
        done = min(self.sender.done, self._total)
        self._talk.progress(self._phase, self.number, done, self._total)
        self.shown(self.number, done, self._total)

    def unexplained(self, used: Used) -> int:
        """How many blocks had changed without being seen; only a deep run knows."""
        if self.sender.differing is None:
            return 0
        runs = unexplained(self.sender.differing, self.ledger.held, used, self.ledger.pending())
        return sum(total(one) for one in runs)

    def send_rest(self, content: Content, used: Used) -> None:
        """After the thaw: what was read while frozen, and which blocks nothing uses."""
        self.unread = None
        frozen = [content.held(disk) for disk in range(len(self.disks))]
        self._send("sending", content.batches(), frozen)
        # In use by now, but not written since: space that was only reserved. Its content is
        # invisible in the frozen filesystem, so it can be read late.
        late = [
            subtract(subtract(runs, self._seen[disk]), frozen[disk])
            for disk, runs in enumerate(used)
        ]
        if any(late):
            self._send("sending", all_batches(late), late)
        self.ledger.lose(used)
        for disk, runs in enumerate(used):
            holes = subtract(whole(self.protected[disk].blocks), runs)
            self.sender.punch(disk, holes, HOLE_RUNS)
