"""The frozen moment and its retries.

Applications and then all filesystems are made to stand still, what may have changed since the last
hot pass is read into memory, and they are let go. What is too much, or was thawed too early, is
read hot once more and tried again. Between the first freeze and the last thaw no server is asked.

Two runs that meet (``meeting.py``) have one such moment: each takes from its own ledger what it
must read, all of that is read once, and both send it.

The last run of a handover (``handover/departure.py``) is sent and sealed within its moment.
"""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Callable, Iterable, Optional, Sequence, Tuple

from notfallserver.agent.applications.hold import Applications
from notfallserver.agent.applications.plan import plan_applications
from notfallserver.agent.config import Settings
from notfallserver.agent.crew import Crew
from notfallserver.agent.disks import md
from notfallserver.agent.disks.runs import merged, subtract, total
from notfallserver.agent.disks.used import Census, FreeSpace, used_runs
from notfallserver.agent.freeze.linux import ALONE, Freezer, Held
from notfallserver.agent.gentle import hurry
from notfallserver.agent.handover.departure import HOLD_S
from notfallserver.agent.meeting import Companion
from notfallserver.agent.moment import FrozenBuffer, Still, TooMuch, Used, all_batches
from notfallserver.agent.place import Place
from notfallserver.agent.stop import Stop
from notfallserver.wire.errors import NotfallError

TRIES = 4
"""How often a frozen moment that was too long is tried again after another hot pass."""
TRIES_HOLDING = 2
"""How many of them hold applications, which write much when they are made to stand still."""


def free_memory() -> int:
    """Bytes that programs can still take without swapping."""
    found = re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())
    return int(found[1]) * 1024 if found else 0


Act = Callable[[Still], None]


class ArrayAdvanced(TooMuch):
    """md filled a member of an array further while everything stood still."""


class Standstill:
    """Of one run, and of one that it leads; ``crew`` reads."""

    def __init__(
        self, settings: Settings, place: Place, companion: Companion, crew: Crew, stop: Stop
    ) -> None:
        self._settings = settings
        self._place = place
        self._companion = companion
        self._passes = companion.passes
        self._ledger = companion.passes.ledger
        self._crew = crew
        self._stop = stop
        self._act: Optional[Act] = None

    def act(self, act: Act) -> None:
        """Stand still, and have ``act`` done meanwhile: with what was read, before anything is
        thawed. Alone, and without applications, which are shut down; only whole filesystems."""
        self._act = act
        if self._ledger.knows:
            self._passes.sender.give_back()
        self._companion.catch_up()
        with ExitStack() as cleanup:
            applications = Applications([], HOLD_S, self._place.common)
            buffer = FrozenBuffer(self._crew, self._passes.disks, self._settings.frozen_mib << 20)
            cleanup.callback(buffer.close)
            self._try(buffer, applications)

    def reach(self) -> Still:
        """Stand still alone or together; raises when that can't be had."""
        if self._ledger.knows:  # else they are used in the frozen moment, and must be there
            self._passes.sender.give_back()
        still = self._companion.meet()
        if still is None:
            try:
                still = self._lead()
            finally:
                self._companion.part()
        self._require_whole()
        return still

    def _require_whole(self) -> None:
        why = self._ledger.changes.broken()
        if why:
            raise NotfallError(
                "tracker-gap", f"Writes were missed: {why}.", "Run it again.", retry=True
            )

    def _lead(self) -> Still:
        settings = self._settings.applications
        planned = plan_applications(settings, self._passes.groups()[1])
        with ExitStack() as cleanup:
            applications = Applications(planned, settings.limit_seconds, self._place.common)
            cleanup.callback(applications.close)
            buffer = FrozenBuffer(self._crew, self._passes.disks, self._settings.frozen_mib << 20)
            cleanup.callback(buffer.close)
            self._prepare(applications)
            still = self._try(buffer, applications)
            self._companion.share(still)  # before the keeper's end is waited for
            return still

    def _prepare(self, applications: Applications) -> None:
        """Start what holds applications; what was written since the last pass is read hot."""
        wrote = applications.prepare(self._passes.tick)
        late = wrote or self._companion.waited or self._passes.unread is not None
        if late and self._ledger.knows:
            self._companion.catch_up()

    def _try(self, buffer: FrozenBuffer, applications: Applications) -> Still:
        advanced = False
        for attempt in range(TRIES):
            buffer.clear()
            if attempt == TRIES_HOLDING:
                applications.give_up("Too much was written while it was made to stand still.")
            if attempt:
                buffer.resize(self._larger_buffer(attempt))
            self._passes.enter("frozen")
            try:
                held, free = self._hold(buffer, applications)
            except (TooMuch, NotfallError) as error:
                if isinstance(error, NotfallError) and error.code != "freeze-lost":
                    raise
                advanced = isinstance(error, ArrayAdvanced)
                if self._passes.unread is not None or not self._ledger.knows:
                    self._companion.catch_up()
                continue
            used = used_runs(self._passes.protected, free)
            return Still(held, used, buffer.content(), applications.applied(held.still_at))
        if advanced:
            raise NotfallError(
                "not-consistent",
                "A RAID array is being rebuilt, and went on with it in every frozen moment.",
                "Wait until /proc/mdstat shows no recovery; replication then goes on by itself.",
                retry=True,
            )
        raise NotfallError(
            "not-consistent",
            "The disks are written faster than they can be read in a frozen moment"
            + ("." if self._ledger.knows else f", without write tracker ({self._why()})."),
            "Run it at a quieter time, or raise frozen_mib in /etc/notfall-agent/agent.json.",
            retry=True,
        )

    def _larger_buffer(self, attempt: int) -> int:
        """Bytes for another try: twice as much each time, as far as memory lies idle."""
        wish = self._settings.frozen_mib << 20 << attempt
        return max(self._settings.frozen_mib << 20, min(wish, free_memory() // 4))

    def _why(self) -> str:
        return str(getattr(self._ledger.changes, "why", ""))

    def _hold(self, buffer: FrozenBuffer, applications: Applications) -> Tuple[Held, FreeSpace]:
        limit = HOLD_S if self._act is not None else self._settings.freeze_seconds
        with ExitStack() as cleanup:
            cleanup.enter_context(ALONE)  # also because priorities are changed and put back
            mounts, groups = self._passes.groups()
            census = Census(self._passes.disks, mounts)
            cleanup.callback(census.close)
            cleanup.enter_context(hurry())
            freezer = cleanup.enter_context(Freezer(groups, limit, self._stop, self._place.note))
            if not self._ledger.knows:
                self._rehearse(buffer, census.free_space(), limit)
            freezer.write_out()
            everybody = cleanup.enter_context(self._companion.together())
            for one in everybody:
                one.ledger.changes.settle()
            with applications.hold(), freezer.hold() as held:
                filled = md.filled_until()
                if self._ledger.knows:
                    wanted = _all([one.must_read() for one in everybody])
                    free = census.free_space()
                    buffer.read(wanted)
                else:
                    free = census.free_space()
                    unproven = self._unproven(free, held.loose)
                    buffer.compare(unproven, self._passes.sender, limit * 0.8)
                if md.filled_until() != filled:
                    # superblocks may have been read that are ahead of the content
                    raise ArrayAdvanced
                if self._act is not None:
                    if held.loose:
                        raise _not_still(held.loose)
                    self._require_whole()
                    used = used_runs(self._passes.protected, free)
                    self._act(Still(held, used, buffer.content(), ()))
        return held, free

    def _unproven(self, free: FreeSpace, loose: Sequence[str] = ()) -> Used:
        """What is in use and not proven to be as the hot pass read it."""
        same = self._ledger.changes.unchanged(free, loose)
        used = used_runs(self._passes.protected, free)
        return [subtract(one, other) for one, other in zip(used, same)]

    def _rehearse(self, buffer: FrozenBuffer, free: FreeSpace, limit: float) -> None:
        """Measure how fast comparing is; refuse before the freeze if it would take too long."""
        began = time.monotonic()
        used = self._unproven(free)
        proving = time.monotonic() - began
        sample = [
            [run for one in islice(all_batches(used), 64) if one.disk == disk for run in one.runs]
            for disk in range(len(used))
        ]
        began = time.monotonic()
        try:
            buffer.compare(sample, self._passes.sender, limit)
        except TooMuch:
            pass
        buffer.clear()
        blocks = sum(total(runs) for runs in sample)
        seconds = time.monotonic() - began
        comparing = seconds / max(blocks, 1) * sum(total(runs) for runs in used)
        if proving + comparing > limit * 0.7:
            raise TooMuch


def _not_still(places: Sequence[str]) -> NotfallError:
    return NotfallError(
        "not-still",
        f"{', '.join(places)} can't be held still, so something could be written to it after the "
        "last version was read.",
        "Shut the machine down yourself; what was written since its last version stays on it.",
    )


def _all(wanted: Iterable[Used]) -> Used:
    """The blocks that anybody wants, of each disk."""
    return [merged([run for runs in each for run in runs]) for each in zip(*wanted)]
