"""One replication: hot passes, a frozen moment, and the seal that makes it a version.

Hot passes read while the system works: first everything in use (or, if the server has the version
since which all writes are known, only what was written since), then again what was written
meanwhile, until little is left. Then all filesystems are frozen, the rest is read into memory,
they are thawed, and the rest is sent. A run cut at any instant leaves the last version untouched.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from notfallserver.agent.applications.application import Applied, consistency
from notfallserver.agent.applications.hold import Applications
from notfallserver.agent.applications.plan import plan_applications
from notfallserver.agent.changes.base import Marks
from notfallserver.agent.changes.ledger import Ledger
from notfallserver.agent.config import Settings
from notfallserver.agent.crew import Crew
from notfallserver.agent.deep import unexplained
from notfallserver.agent.disks.base import Protected
from notfallserver.agent.disks.direct import DirectDisk
from notfallserver.agent.disks.fitness import check_fitness
from notfallserver.agent.disks.linux import machine_facts
from notfallserver.agent.disks.mounts import Mount, current_mounts, to_freeze
from notfallserver.agent.disks.runs import intersect, merged, subtract, total, whole
from notfallserver.agent.disks.used import Census, FreeSpace, used_runs
from notfallserver.agent.freeze.linux import Freezer, Held, write_out
from notfallserver.agent.gentle import hurry
from notfallserver.agent.line import Line
from notfallserver.agent.moment import FrozenBuffer, TooMuch, all_batches
from notfallserver.agent.pace import Pace
from notfallserver.agent.packing import Packing
from notfallserver.agent.place import Place, boot_id
from notfallserver.agent.send import Batch, Sender
from notfallserver.agent.stop import Stop
from notfallserver.wire.allowance import read_allowance
from notfallserver.wire.blocks import BLOCK, Run
from notfallserver.wire.client import Throttle
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.frames import HOLE_RUNS, readable_codecs

TRIES = 4
"""How often a frozen moment that was too long is tried again after another hot pass."""
SPARE_CONNECTIONS = 5
"""More than there are workers, for a line that is thin. Not on a single processor, which would
rather be the limit than the line."""
TRIES_HOLDING = 2
"""How many of them hold applications, which write much when they are made to stand still."""

Used = List[List[Run]]


def free_memory() -> int:
    """Bytes that programs can still take without swapping."""
    found = re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())
    return int(found[1]) * 1024 if found else 0


@dataclass(frozen=True)
class Outcome:
    """What a run achieved. Bytes; milliseconds; seconds."""

    version: str
    read_all: bool
    passes: int
    bytes_read: int
    bytes_sent: int
    frozen_blocks: int
    freeze_ms: float
    seconds: float
    consistency: str
    applications: Tuple[Applied, ...] = ()
    unexplained: int = 0  # blocks that a deep run found changed, but not written


class Replication:
    """One run. ``connect`` makes a line of its own for each thread."""

    def __init__(
        self,
        settings: Settings,
        place: Place,
        disks: Sequence[Protected],
        ledger: Ledger,
        connect: Callable[[Optional[Throttle]], Line],
        stop: Stop,
        deep: bool = False,
    ) -> None:
        self._settings = settings
        self._place = place
        self._protected = list(disks)
        self._ledger = ledger
        self._connect = connect
        self._stop = stop
        self._deep = deep
        self._cleanup = ExitStack()
        self._line = connect(None)
        self._pace = Pace()
        self._path = ""
        self._phase = "hot"
        self._pass = 0
        self._total = 0
        self._applied: Tuple[Applied, ...] = ()
        self._seen: Used = [[] for _ in disks]
        """Blocks whose content was sent at least once, in this run or the version it builds on."""

    @property
    def begun(self) -> bool:
        """Whether the server knows this run: then it also hears how it ends."""
        return bool(self._path)

    def run(self) -> Outcome:
        began = time.monotonic()
        self._ask_for_promised()
        facts = machine_facts(self._protected)
        check_fitness(facts, self._protected, current_mounts())
        machine = facts.to_json()
        body = {
            "machine": machine,
            "codecs": readable_codecs(),
            "tracked_since": self._ledger.since,
            "boot_id": boot_id(),
            "deep": self._deep,
        }
        answer = self._line.call("/agent/v1/runs", body)
        self._pace.allow(read_allowance(answer.get("allowance")))
        self._pace.expect(answer.get("line_rate"))
        self._path = f"/agent/v1/runs/{answer.get('run', '')}"
        with self._cleanup:
            self._cleanup.callback(self._line.close)
            try:
                return self._transfer(answer, machine, began)
            except NotfallError as error:
                self._tell_failure(error)
                raise

    def _tell_failure(self, error: NotfallError) -> None:
        try:
            self._line.call(f"{self._path}/fail", error.to_json(), timeout=10, patience=0)
        except NotfallError:
            pass  # it is in the agent's log; the server notices the silence

    def _transfer(self, answer: Dict[str, Any], machine: Dict[str, Any], began: float) -> Outcome:
        base = str(answer.get("base", ""))
        spare = SPARE_CONNECTIONS if (os.cpu_count() or 1) > 1 else 0
        self._crew = Crew(self._settings.workers, spare)
        self._cleanup.callback(self._crew.close)
        self._disks = []
        for one in self._protected:
            self._disks.append(DirectDisk(one))
            self._cleanup.callback(self._disks[-1].close)
        self._sender = Sender(
            self._crew,
            self._connect,
            self._disks,
            self._path,
            self._packing(answer),
            self._pace,
            self._settings.workers,
        )
        self._cleanup.callback(self._sender.close)
        self._cleanup.callback(self._pace.close)
        self._cleanup.callback(self._ledger.changes.rest)
        tracked = bool(base and self._ledger.since == base)
        self._sender.unasked = not base and answer.get("resumed") is False
        self._deep &= tracked  # where nothing is known, nothing can be compared
        self._hot_passes(tracked)
        buffer = FrozenBuffer(self._crew, self._disks, self._settings.frozen_mib << 20)
        self._cleanup.callback(buffer.close)
        held, used = self._freeze(buffer)
        unseen = self._unexplained(used)
        self._send_rest(buffer, used)
        frozen_blocks = sum(total(buffer.held(disk)) for disk in range(len(self._disks)))
        whole = consistency(held.consistency, self._applied)
        seal = {
            "machine": machine,
            "frozen_at": held.frozen_at,
            "freeze_ms": round(held.milliseconds, 1),
            "consistency": whole,
            "applications": [asdict(one) for one in self._applied],
            "passes": self._pass,
            "bytes_read": self._sender.read + frozen_blocks * BLOCK,
            "bytes_sent": self._sender.sent,
            "read_all": not tracked,
            "line_rate": round(self._pace.gauge.rate()),
            "deep": self._deep,
            "unexplained": unseen,
        }
        if unseen:
            self._ledger.distrust()
            version = self._seal(self._path, seal)
        else:
            self._ledger.promise(self._path, used)
            version = self._seal(self._path, seal)
            self._ledger.seal(version)
        return Outcome(
            version,
            not tracked,
            self._pass,
            self._sender.read + frozen_blocks * BLOCK,
            self._sender.sent,
            frozen_blocks,
            held.milliseconds,
            time.monotonic() - began,
            whole,
            self._applied,
            unseen,
        )

    def _unexplained(self, used: Used) -> int:
        """How many blocks had changed without being seen; only a deep run knows."""
        if self._sender.differing is None:
            return 0
        runs = unexplained(self._sender.differing, self._ledger.held, used, self._ledger.pending())
        return sum(total(one) for one in runs)

    def _packing(self, answer: Dict[str, Any]) -> Packing:
        told = answer.get("codecs")
        codecs = {one for one in told if isinstance(one, int)} if isinstance(told, list) else set()
        threads = min(self._settings.workers, os.cpu_count() or 1)
        return Packing(
            int(answer.get("codec", 0)),
            [one for one in readable_codecs() if one in codecs],
            threads,
            self._pace.line_rate,
        )

    def _seal(self, path: str, body: Dict[str, Any]) -> str:
        """The version that came of a run."""
        return str(self._line.call(f"{path}/seal", body, timeout=600).get("version", ""))

    def _ask_for_promised(self) -> None:
        """An agent was killed, or the line cut, while the server sealed: what came of it?"""
        if not self._ledger.sealing:
            return
        try:
            self._ledger.seal(self._seal(self._ledger.sealing, {}))
        except NotfallError as error:
            if error.status >= 500:  # the server doesn't say; a run can't begin either
                raise
            self._ledger.withdraw()

    # -- hot -------------------------------------------------------------------------------------

    def _groups(self) -> Tuple[List[Mount], List[List[Mount]]]:
        mounts = current_mounts()
        return mounts, to_freeze(mounts, [one.device for one in self._protected])

    def _count_used(self) -> Used:
        census = Census(self._disks, current_mounts())
        try:
            return used_runs(self._protected, census.free_space())
        finally:
            census.close()

    def _hot_passes(self, tracked: bool) -> None:
        write_out(self._groups()[1])
        if not self._ledger.knows:
            self._sender.note_hashes()
        if tracked:
            self._ledger.take()
            self._seen = self._ledger.held
            wanted = used = self._count_used()
            if self._deep:
                self._sender.differing = [[] for _ in used]
            else:
                wanted = self._written_or_new(self._ledger.pending(), used)
        else:
            self._ledger.restart()
            wanted = self._count_used()
        self._hot_pass(wanted)
        if not self._ledger.knows:
            return
        last = 0
        for _ in range(1, self._settings.hot_passes):
            write_out(self._groups()[1])
            marks = self._ledger.take()
            wanted = self._written_or_new(marks, self._count_used())
            self._hot_pass(wanted)
            amount = sum(total(runs) for runs in wanted)
            if amount <= self._settings.frozen_mib * 4 or (last and amount > last * 3 // 4):
                return  # a quarter of the frozen buffer, or it doesn't shrink any more
            last = amount

    def _written_or_new(self, marks: Marks, used: Used) -> Used:
        """Marked blocks in use, and those in use whose content was never sent.

        ``used`` must be counted after the marks were taken: then what was marked is in use.
        """
        wanted = []
        for disk, runs in enumerate(used):
            written = intersect(marks[disk], runs)
            wanted.append(merged(written + subtract(runs, self._seen[disk])))
        return wanted

    def _hot_pass(self, wanted: Used) -> None:
        self._pass += 1
        self._send("hot", all_batches(wanted), wanted)
        self._sender.unasked = False
        self._seen = [merged([*one, *other]) for one, other in zip(self._seen, wanted)]

    def _send(self, phase: str, batches: Iterable[Batch], wanted: Used) -> None:
        self._phase = phase
        self._total = sum(total(runs) for runs in wanted) * BLOCK
        self._sender.send_all(batches, self._tick)
        self._tick()

    def _tick(self) -> None:
        """Tell the progress; leave when asked to."""
        self._stop.check()
        held = self._pace.watch(self._phase == "hot")
        body = {
            "phase": f"paused: {held}" if held else self._phase,
            "pass": self._pass,
            "done": min(self._sender.done, self._total),
            "total": self._total,
        }
        answer = self._line.call(f"{self._path}/progress", body)
        self._pace.allow(read_allowance(answer.get("allowance")))
        if answer.get("cancelled") is True:
            raise NotfallError("cancelled", "The replication was cancelled.", status=409)

    # -- frozen ----------------------------------------------------------------------------------

    def _freeze(self, buffer: FrozenBuffer) -> Tuple[Held, Used]:
        applications = self._prepare_applications()
        for attempt in range(TRIES):
            buffer.clear()
            if attempt == TRIES_HOLDING:
                applications.give_up("Too much was written while it was made to stand still.")
            if attempt:
                buffer.resize(self._larger_buffer(attempt))
            self._phase = "frozen"
            self._tick()
            marks: List[Marks] = []
            try:
                held, free = self._hold(buffer, marks, applications)
            except (TooMuch, NotfallError) as error:
                if isinstance(error, NotfallError) and error.code != "freeze-lost":
                    raise
                # What was taken must be read again before the next try.
                again = marks[0] if self._ledger.knows and marks else None
                if not self._ledger.knows:
                    again = self._ledger.take()
                if again is not None:
                    self._hot_pass(self._written_or_new(again, self._count_used()))
                continue
            why = self._ledger.changes.broken()
            if why:
                raise NotfallError(
                    "tracker-gap", f"Writes were missed: {why}.", "Run it again.", retry=True
                )
            self._applied = applications.applied(held.still_at)
            return held, used_runs(self._protected, free)
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
        planned = plan_applications(settings, self._groups()[1])
        applications = Applications(planned, settings.limit_seconds, self._place.directory)
        self._cleanup.callback(applications.close)
        if applications.prepare(self._tick) and self._ledger.knows:
            write_out(self._groups()[1])
            self._hot_pass(self._written_or_new(self._ledger.take(), self._count_used()))
        return applications

    def _hold(
        self, buffer: FrozenBuffer, taken: List[Marks], applications: Applications
    ) -> Tuple[Held, FreeSpace]:
        mounts, groups = self._groups()
        limit = self._settings.freeze_seconds
        with ExitStack() as cleanup:
            census = Census(self._disks, mounts)
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
                    buffer.compare(unproven, self._sender, limit * 0.8)
        return held, free

    def _must_read(self, marks: Marks) -> Used:
        return [
            merged([*written, *disk.boot_areas()]) for written, disk in zip(marks, self._protected)
        ]

    def _unproven(self, free: FreeSpace, loose: Sequence[str] = ()) -> Used:
        """What is in use and not proven to be as the hot pass read it."""
        same = self._ledger.changes.unchanged(free, loose)
        return [subtract(one, other) for one, other in zip(used_runs(self._protected, free), same)]

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
            buffer.compare(sample, self._sender, limit)
        except TooMuch:
            pass
        buffer.clear()
        blocks = sum(total(runs) for runs in sample)
        seconds = time.monotonic() - began
        expected = seconds / max(blocks, 1) * sum(total(runs) for runs in used)
        if proving + expected > limit * 0.7:
            raise TooMuch

    # -- after the thaw --------------------------------------------------------------------------

    def _send_rest(self, buffer: FrozenBuffer, used: Used) -> None:
        frozen = [buffer.held(disk) for disk in range(len(self._disks))]
        self._send("sending", buffer.batches(), frozen)
        # In use by now, but not written since: space that was only reserved. Its content is
        # invisible in the frozen filesystem, so it can be read late.
        late = [
            subtract(subtract(runs, self._seen[disk]), frozen[disk])
            for disk, runs in enumerate(used)
        ]
        if any(late):
            self._send("sending", all_batches(late), late)
        self._ledger.lose(used)
        for disk, runs in enumerate(used):
            holes = subtract(whole(self._protected[disk].blocks), runs)
            self._sender.punch(disk, holes, HOLE_RUNS)
