"""Without a tracker: what is in use, less what files prove to be unchanged.

Two looks at all files are taken in each run. One at its beginning (:meth:`Rule.take`), right after
all filesystems were frozen for an instant, so that what is on the disks is as it was in memory.
Compared with the look of the version's frozen moment it tells what the hot pass need not read. The
other one in the frozen moment (:meth:`Rule.unchanged`): compared with the first it tells what has
not changed since the hot pass read it, and it is kept for the next run. Each comparison is right
because a later change of content has a ctime after the instant (``unchanged.py``).

Everything is kept in memory (``/run``), and ends with the process. Nothing is called unchanged
where a clock was set back, where an NFS server runs, or where a filesystem can't be frozen.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Iterator, List, Optional, Sequence, Tuple

from notfallserver.agent.changes import boots
from notfallserver.agent.changes.base import Changes, Marks, merge
from notfallserver.agent.changes.kept import PrintWriter, read_prints
from notfallserver.agent.changes.survey import Survey
from notfallserver.agent.changes.unchanged import Print
from notfallserver.agent.disks.base import Protected
from notfallserver.agent.disks.runs import Extent, subtract, whole
from notfallserver.agent.inodes.base import NotUnderstood
from notfallserver.agent.place import Place
from notfallserver.wire.errors import NotfallError

log = logging.getLogger("notfall-agent")

HOT = ("files.hot0", "files.hot1")
FROZEN, VERSION = "files.frozen", "files.version"


@dataclass(frozen=True)
class _Moment:
    """``at`` in nanoseconds since 1970; ``offset`` was read before it, see ``clock_offset``."""

    offset: float
    at: int

    @classmethod
    def now(cls) -> _Moment:
        return cls(boots.clock_offset(), time.time_ns())


@dataclass(frozen=True)
class _Look:
    """The fingerprints, in ``path``, of all files as of one moment."""

    path: Path
    moment: _Moment
    filesystems: List[str]
    counts: List[int]

    def prints(self, identity: str) -> Optional[Iterator[Print]]:
        if identity not in self.filesystems:
            return None
        return read_prints(self.path, self.counts, self.filesystems.index(identity))

    @property
    def counts_now(self) -> bool:
        return boots.clock_offset() > self.moment.offset - 1 and not boots.serves_files()


class Rule(Changes):
    """Used where the kernel offers no tracker; ``why`` says what it lacks."""

    def __init__(self, why: str, disks: Sequence[Protected], place: Place) -> None:
        self.why = why
        self._protected = list(disks)
        self._place = place
        self._open = ExitStack()
        self._survey: Optional[Survey] = None
        self._settled = _Moment.now()
        self._turn = 0
        self._pending: Marks = [whole(one.blocks) for one in disks]
        self._hot: Optional[_Look] = None
        self._frozen: Optional[_Look] = None
        self._version: Optional[_Look] = None

    def settle(self) -> None:
        """A freeze follows: what changes after it has a ctime after now."""
        self._settled = _Moment.now()

    def take(self) -> Marks:
        """Look at all files: what they do not prove to be as at the last call of this run or, at
        the first call, as in the version."""
        before, first = self._hot or self._version, self._hot is None
        marks = [whole(one.blocks) for one in self._protected]
        self.rest()
        try:
            self._survey = Survey(self._protected, self._place, self._open)
            moment = _Moment.now()
            self._survey.still()
            free = self._survey.free_space()
            self._turn = 1 - self._turn
            self._hot, same = self._look(HOT[self._turn], moment, before, free)
            marks = [subtract(one, other) for one, other in zip(marks, same)]
        except (OSError, NotUnderstood, NotfallError) as error:
            log.warning("everything in use will be read: %s", error)
            self.rest()
        earlier = [[] for _ in marks] if first else self._pending
        self._pending = [merge(one, other) for one, other in zip(earlier, marks)]
        return marks

    def pending(self) -> Marks:
        return self._pending

    def unchanged(self, free: Sequence[Sequence[Extent]], loose: Sequence[str]) -> Marks:
        """Blocks in use that did not change since the last :meth:`take`; works while frozen.

        ``loose`` are the places that are not frozen.
        """
        self._frozen = None
        survey = self._survey
        if survey is None or self._hot is None or any(x.place in loose for x in survey.filesystems):
            return [[] for _ in self._protected]
        try:
            self._frozen, same = self._look(FROZEN, self._settled, self._hot, free)
            return same
        except (OSError, NotUnderstood):
            return [[] for _ in self._protected]

    @property
    def remembers(self) -> bool:
        return self._frozen is not None

    def assume(self, marks: Marks) -> None:
        """Nothing is assumed: what was written is found in the files."""

    def forget(self) -> None:
        """The version holds what the last frozen look saw."""
        self._version, self._frozen = self._renamed(self._frozen), None

    def rest(self) -> None:
        self._open.close()
        self._survey = self._hot = None

    def close(self) -> None:
        self.rest()
        self._version = self._frozen = None
        for name in (*HOT, FROZEN, VERSION):
            (self._place.directory / name).unlink(missing_ok=True)

    def _renamed(self, look: Optional[_Look]) -> Optional[_Look]:
        if look is None:
            return None
        path = self._place.directory / VERSION
        look.path.replace(path)
        return replace(look, path=path)

    def _look(
        self, name: str, moment: _Moment, before: Optional[_Look], free: Sequence[Sequence[Extent]]
    ) -> Tuple[_Look, Marks]:
        """A look of now, as of ``moment``, and what did not change since the one before."""
        survey = self._survey
        if survey is None:
            raise NotUnderstood("nothing is open")
        self._place.make()
        path = self._place.directory / name
        handle = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w+b") as stream:
            writer = PrintWriter(stream)
            if before is not None and before.counts_now:
                same = survey.unchanged(free, before.prints, before.moment.at, writer)
            else:
                same = survey.unchanged(free, lambda _: None, 0, writer)
        filesystems = [one.identity for one in survey.filesystems]
        return _Look(path, moment, filesystems, writer.counts), same
