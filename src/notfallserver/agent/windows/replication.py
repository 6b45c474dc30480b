"""One replication of a Windows machine: a snapshot of all volumes, read and sent, and the seal.

There are no hot passes: a snapshot stays as long as it is read, so everything in use is read once
and offered; the server asks for what it doesn't have. A run cut at any instant leaves the last
version untouched, and Windows drops the snapshot with the process.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Callable, Dict, Iterator, List, Optional

from notfallserver.agent import watching
from notfallserver.agent.applications.application import consistency
from notfallserver.agent.config import Settings
from notfallserver.agent.crew import Crew
from notfallserver.agent.disks.runs import batches, subtract, total, whole
from notfallserver.agent.disks.windows import machine_facts, see_disks
from notfallserver.agent.line import Line
from notfallserver.agent.ntfs.boot import Unreadable
from notfallserver.agent.ntfs.sample import take_sample
from notfallserver.agent.ntfs.watched import look_at_files
from notfallserver.agent.outcome import Outcome, seal_body
from notfallserver.agent.pace import Pace
from notfallserver.agent.packing import Packing
from notfallserver.agent.sampling import FILES, WITHIN_S
from notfallserver.agent.send import Batch, Sender
from notfallserver.agent.stop import Stop
from notfallserver.agent.talk import Begun, Talk
from notfallserver.agent.windows.boot import boot_id
from notfallserver.agent.windows.fitness import check_fitness
from notfallserver.agent.windows.load import Load
from notfallserver.agent.windows.moment import Moment, Take, hold_moment
from notfallserver.agent.windows.survey import see_volumes
from notfallserver.agent.windows.system import Refused, System
from notfallserver.wire.blocks import BLOCK
from notfallserver.wire.client import Throttle
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.frames import BATCH_BLOCKS, HOLE_RUNS, readable_codecs

log = logging.getLogger("notfall-agent")

AHEAD = 4
"""As in a run on Linux: so many frames more than threads at work."""


class WindowsReplication:
    """One run. ``connect`` makes a line of its own for each thread; ``take`` makes the snapshots,
    in the thread that runs."""

    def __init__(
        self,
        settings: Settings,
        system: System,
        take: Take,
        connect: Callable[[Optional[Throttle]], Line],
        stop: Stop,
        deep: bool = False,
    ) -> None:
        self._settings = settings
        self._system = system
        self._take = take
        self._connect = connect
        self._deep = deep
        self._load = Load(system)
        self._pace = Pace(self._load.look)
        self._talk = Talk(connect(None), self._pace, stop)

    @property
    def begun(self) -> bool:
        """Whether the server knows this run: then it also hears how it ends."""
        return bool(self._talk.path)

    def run(self) -> Outcome:
        began = time.monotonic()
        with ExitStack() as cleanup:
            cleanup.callback(self._talk.close)
            disks, volumes = (
                see_disks(self._system, self._settings.disks),
                see_volumes(self._system),
            )
            check_fitness(disks, volumes)
            self._load.open([one.number for one in disks])
            cleanup.callback(self._load.close)
            machine = machine_facts(self._system, disks, volumes).to_json()
            body = {
                "machine": machine,
                "codecs": readable_codecs(),
                "tracked_since": "",
                "boot_id": boot_id(self._system),
                "deep": self._deep,
                "last": False,
            }
            begun = self._talk.begin(body)
            try:
                self._talk.progress("frozen", 1, 0, 0)
                with hold_moment(self._system, disks, volumes, self._take) as moment:
                    sender = self._send(moment, begun)
                    told = {"sample": sample_of(moment), "watched": watched_of(moment)}
                return self._seal(moment, sender, machine, began, told)
            except NotfallError as error:
                self._talk.fail(error)
                raise

    def _send(self, moment: Moment, begun: Begun) -> Sender:
        with ExitStack() as cleanup:
            ahead = AHEAD if (os.cpu_count() or 1) > 1 else 0
            crew = Crew(self._settings.workers + ahead)
            cleanup.callback(crew.close)
            sender = Sender(
                crew,
                self._connect,
                moment.disks,
                self._talk.path,
                self._packing(begun),
                self._pace,
                self._settings.workers,
            )
            cleanup.callback(sender.close)
            cleanup.callback(self._pace.close)
            sender.unasked = begun.empty
            wanted = sum(total(runs) for runs in moment.used) * BLOCK

            def tick() -> None:
                self._talk.progress("hot", 1, min(sender.done, wanted), wanted)

            sender.send_all(_batches(moment), tick)
            for disk, runs in enumerate(moment.used):
                holes = subtract(whole(moment.disks[disk].disk.blocks), runs)
                sender.punch(disk, holes, HOLE_RUNS)
            tick()
            return sender

    def _seal(
        self,
        moment: Moment,
        sender: Sender,
        machine: Dict[str, Any],
        began: float,
        told: Dict[str, List[Dict[str, Any]]],
    ) -> Outcome:
        whole_run = Outcome(
            "",
            True,
            1,
            sender.read,
            sender.sent,
            0,
            moment.milliseconds,
            0.0,
            consistency(moment.consistency, moment.applied),
            moment.applied,
            0,
            moment.frozen_at,
        )
        body = {**seal_body(whole_run, machine, self._pace.gauge.rate(), False), **told}
        version = self._talk.seal(self._talk.path, body)
        seconds = time.monotonic() - began
        return replace(whole_run, version=version, seconds=seconds)

    def _packing(self, begun: Begun) -> Packing:
        threads = min(self._settings.workers, os.cpu_count() or 1)
        readable = [one for one in readable_codecs() if one in begun.codecs]
        return Packing(begun.codec, readable, threads, self._pace.line_rate)


def sample_of(moment: Moment) -> List[Dict[str, Any]]:
    """Files that a copy can be compared with, of all NTFS volumes alike. Nothing of it may fail a
    run; where something was written while it is read, nothing is told."""
    if moment.consistency == "crash" or not moment.ntfs:
        return []
    count = len(moment.ntfs)
    each, within_s = -(-FILES // count), WITHIN_S / count
    found: List[Dict[str, Any]] = []
    for volume in moment.ntfs:
        try:
            found += take_sample(volume, each, within_s)
        except (Refused, Unreadable) as error:
            log.warning("no sample of files: %s", error)
    return found[:FILES]


def watched_of(moment: Moment) -> List[Dict[str, Any]]:
    """How the watched files look, of all NTFS volumes alike. Nothing of it may fail a run."""
    count = max(1, len(moment.ntfs))
    found: List[Dict[str, Any]] = []
    for volume in moment.ntfs:
        try:
            found += look_at_files(volume, -(-watching.FILES // count), watching.WITHIN_S / count)
        except (Refused, Unreadable) as error:
            log.warning("no look at files: %s", error)
    return found[: watching.FILES]


def _batches(moment: Moment) -> Iterator[Batch]:
    """Made when asked for, not before: a large disk has very many."""
    for disk, runs in enumerate(moment.used):
        for group in batches(runs, BATCH_BLOCKS):
            yield Batch(disk, group)
