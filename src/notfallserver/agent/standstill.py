"""The frozen moment and its retries.

Applications and then all filesystems are made to stand still, what may have changed since the last
hot pass is read into memory, and they are let go. What is too much, or was thawed too early, is
read hot once more and tried again. Between the first freeze and the last thaw no server is asked.
"""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import List, Sequence, Tuple

from notfallserver.agent.applications.application import Applied
from notfallserver.agent.applications.hold import Applications
from notfallserver.agent.applications.plan import plan_applications
from notfallserver.agent.changes.base import Marks
from notfallserver.agent.config import Settings
from notfallserver.agent.disks.runs import merged, subtract, total
from notfallserver.agent.disks.used import Census, FreeSpace, used_runs
from notfallserver.agent.freeze.linux import Freezer, Held
from notfallserver.agent.gentle import hurry
from notfallserver.agent.moment import FrozenBuffer, TooMuch, all_batches
from notfallserver.agent.passes import Passes, Used
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


@dataclass(frozen=True)
class Still:
    """What stood still: when, what was in use then, and what that means for applications."""

    held: Held
    used: Used
    applied: Tuple[Applied, ...]


class Standstill:
    """Of one run. Use it as a context manager: leaving it lets everything go."""

    def __init__(self, settings: Settings, place: Place, passes: Passes, stop: Stop) -> None:
        self._settings = settings
        self._place = place
        self._passes = passes
        self._ledger = passes.ledger
        self._stop = stop
        self._cleanup = ExitStack()

    def __enter__(self) -> Standstill:
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def reach(self, buffer: FrozenBuffer) -> Still:
        """Afterwards ``buffer`` holds what was read."""
        applications = self._prepare_applications()
        for attempt in range(TRIES):
            buffer.clear()
            if attempt == TRIES_HOLDING:
                applications.give_up("Too much was written while it was made to stand still.")
            if attempt:
                buffer.resize(self._larger_buffer(attempt))
            self._passes.enter("frozen")
            marks: List[Marks] = []
            try:
                held, free = self._hold(buffer, marks, applications)
            except (TooMuch, NotfallError) as error:
                if isinstance(error, NotfallError) and error.code != "freeze-lost":
                    raise
                if not self._ledger.knows:
                    self._passes.catch_up()
                elif marks:  # taken, so they must be read again before the next try
                    self._passes.read_again(marks[0])
                continue
            why = self._ledger.changes.broken()
            if why:
                raise NotfallError(
                    "tracker-gap", f"Writes were missed: {why}.", "Run it again.", retry=True
                )
            used = used_runs(self._passes.protected, free)
            return Still(held, used, applications.applied(held.still_at))
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

    def _prepare_applications(self) -> Applications:
        """Start what holds applications; what they then write is read in another hot pass."""
        settings = self._settings.applications
        planned = plan_applications(settings, self._passes.groups()[1])
        applications = Applications(planned, settings.limit_seconds, self._place.directory)
        self._cleanup.callback(applications.close)
        if applications.prepare(self._passes.tick) and self._ledger.knows:
            self._passes.catch_up()
        return applications

    def _hold(
        self, buffer: FrozenBuffer, taken: List[Marks], applications: Applications
    ) -> Tuple[Held, FreeSpace]:
        mounts, groups = self._passes.groups()
        limit = self._settings.freeze_seconds
        with ExitStack() as cleanup:
            census = Census(self._passes.disks, mounts)
            cleanup.callback(census.close)
            cleanup.enter_context(hurry())
            freezer = cleanup.enter_context(Freezer(groups, limit, self._stop, self._place.note))
            if not self._ledger.knows:
                self._rehearse(buffer, census.free_space(), limit)
            freezer.write_out()
            self._ledger.changes.settle()
            with applications.hold(), freezer.hold() as held:
                if self._ledger.knows:
                    taken.append(self._ledger.take())
                    free = census.free_space()
                    buffer.read(self._must_read(taken[0]))
                else:
                    free = census.free_space()
                    unproven = self._unproven(free, held.loose)
                    buffer.compare(unproven, self._passes.sender, limit * 0.8)
        return held, free

    def _must_read(self, marks: Marks) -> Used:
        return [
            merged([*written, *disk.boot_areas()])
            for written, disk in zip(marks, self._passes.protected)
        ]

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
