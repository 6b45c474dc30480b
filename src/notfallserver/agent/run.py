"""One replication: hot passes, a frozen moment, and the seal that makes it a version.

Hot passes (``passes.py``) read while the system works. Then all filesystems are frozen, the rest is
read into memory, they are thawed (``standstill.py``), and the rest is sent. A run cut at any
instant leaves the last version untouched.

The last run of a handover shuts down what works here after the hot passes, and ends the machine.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Optional, Sequence

from notfallserver.agent.applications.application import consistency
from notfallserver.agent.changes.ledger import Ledger
from notfallserver.agent.config import Settings
from notfallserver.agent.crew import Crew
from notfallserver.agent.disks.base import Protected
from notfallserver.agent.disks.direct import DirectDisk
from notfallserver.agent.disks.fitness import check_fitness
from notfallserver.agent.disks.linux import machine_facts
from notfallserver.agent.disks.mounts import current_mounts
from notfallserver.agent.handover.departure import HOLD_S, TELL_S, Departure
from notfallserver.agent.line import Line
from notfallserver.agent.meeting import Meeting
from notfallserver.agent.moment import Still, Used
from notfallserver.agent.outcome import Outcome, seal_body
from notfallserver.agent.pace import Pace
from notfallserver.agent.packing import Packing
from notfallserver.agent.passes import Passes
from notfallserver.agent.place import Place, boot_id
from notfallserver.agent.sample import Taken, still_true, take_sample
from notfallserver.agent.send import Sender
from notfallserver.agent.standstill import Standstill
from notfallserver.agent.stop import Stop
from notfallserver.agent.talk import Begun, Talk
from notfallserver.agent.watched import look_at_files
from notfallserver.wire.blocks import BLOCK
from notfallserver.wire.client import Throttle
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.frames import readable_codecs

log = logging.getLogger("notfall-agent")

AHEAD = 4
"""So many frames are read, under way or being stored while the workers are at work on others. Not
on a single processor, which would rather be the limit than disk, line or pool."""


@dataclass(frozen=True)
class _Known:
    """Of a run, when its hot passes are over."""

    machine: Dict[str, Any]
    passes: Passes
    sender: Sender
    read_all: bool
    deep: bool
    began: float
    sample: List[Taken]
    watched: List[Dict[str, Any]]


class Replication:
    """One run. ``connect`` makes a line of its own for each thread; at the ``meeting`` it may come
    together with a run for another server. With a ``departure`` it is the last one."""

    def __init__(
        self,
        settings: Settings,
        place: Place,
        disks: Sequence[Protected],
        ledger: Ledger,
        connect: Callable[[Optional[Throttle]], Line],
        stop: Stop,
        meeting: Meeting,
        deep: bool = False,
        departure: Optional[Departure] = None,
    ) -> None:
        self._settings = settings
        self._place = place
        self._protected = list(disks)
        self._ledger = ledger
        self._connect = connect
        self._stop = stop
        self._meeting = meeting
        self._deep = deep
        self._departure = departure
        self._cleanup = ExitStack()
        self._pace = Pace()
        self._talk = Talk(connect(None), self._pace, stop)

    @property
    def begun(self) -> bool:
        """Whether the server knows this run: then it also hears how it ends."""
        return bool(self._talk.path)

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
            "last": self._departure is not None,
        }
        begun = self._talk.begin(body)
        with self._cleanup:
            self._cleanup.callback(self._talk.close)
            try:
                return self._transfer(begun, machine, began)
            except NotfallError as error:
                self._talk.fail(error)
                raise

    def _ask_for_promised(self) -> None:
        """An agent was killed, or the line cut, while the server sealed: what came of it?"""
        if not self._ledger.sealing:
            return
        try:
            self._ledger.seal(self._talk.seal(self._ledger.sealing, {}))
        except NotfallError as error:
            if error.status >= 500:  # the server doesn't say; a run can't begin either
                raise
            self._ledger.withdraw()

    def _transfer(self, begun: Begun, machine: Dict[str, Any], began: float) -> Outcome:
        ahead = AHEAD if (os.cpu_count() or 1) > 1 else 0
        crew = Crew(self._settings.workers + ahead)
        self._cleanup.callback(crew.close)
        disks = []
        for one in self._protected:
            disks.append(DirectDisk(one))
            self._cleanup.callback(disks[-1].close)
        sender = Sender(
            crew,
            self._connect,
            disks,
            self._talk.path,
            self._packing(begun),
            self._pace,
            self._settings.workers,
        )
        self._cleanup.callback(sender.close)
        self._cleanup.callback(self._pace.close)
        sender.unasked = begun.empty
        self._cleanup.callback(self._ledger.changes.rest)
        tracked = bool(begun.base and self._ledger.since == begun.base)
        if begun.base and not tracked:
            since = self._ledger.since or "no version"
            log.info("reading all: writes are known since %s, not %s", since, begun.base)
        deep = self._deep and tracked  # where nothing is known, nothing can be compared
        passes = Passes(self._settings, self._protected, disks, self._ledger, sender, self._talk)
        companion = self._cleanup.enter_context(self._meeting.join(passes))
        sample = take_sample(one.device for one in self._protected)
        watched = look_at_files(one.device for one in self._protected)
        passes.run(tracked, deep)
        standstill = Standstill(self._settings, self._place, companion, crew, self._stop)
        known = _Known(machine, passes, sender, not tracked, deep, began, sample, watched)
        if self._departure is not None:
            return self._depart(self._departure, standstill, known)
        return self._finish(standstill.reach(), known)

    def _finish(self, still: Still, known: _Known) -> Outcome:
        """Send what was read while frozen, and have it sealed."""
        passes, sender = known.passes, known.sender
        unseen = passes.unexplained(still.used)
        passes.send_rest(still.content, still.used)
        frozen_blocks = still.content.blocks
        filesystems = still.held.consistency
        outcome = Outcome(
            "",
            known.read_all,
            passes.number,
            sender.read + frozen_blocks * BLOCK,
            sender.sent,
            frozen_blocks,
            still.held.milliseconds,
            0.0,
            # What was shut down in order has written all it had.
            "application" if self._departure else consistency(filesystems, still.applied),
            still.applied,
            unseen,
            still.held.frozen_at,
        )
        body = seal_body(outcome, known.machine, self._pace.gauge.rate(), known.deep)
        body["sample"] = still_true(known.sample) if outcome.consistency != "crash" else []
        body["watched"] = known.watched
        version = self._seal(body, still.used, bool(unseen))
        return replace(outcome, version=version, seconds=time.monotonic() - known.began)

    def _depart(self, departure: Departure, standstill: Standstill, known: _Known) -> Outcome:
        """Shut down, seal the last version while everything is frozen, and go."""
        made: List[Outcome] = []

        def seal_and_leave(still: Still) -> None:
            still.held.milliseconds = (time.monotonic() - still.held.began) * 1000  # so far
            made.append(self._finish(still, known))
            if time.monotonic() - still.held.began > HOLD_S - 3 * TELL_S:  # for telling and going
                raise NotfallError(
                    "freeze-too-long",
                    "Sending the last changes took too long, so the handover was given up.",
                    "Hand over at a time when less is being written.",
                    retry=True,
                )
            departure.leave(made[0].version, boot_id())

        with departure.shut_down(lambda: known.passes.enter("shutting down")):
            standstill.act(seal_and_leave)
        return made[0]

    def _packing(self, begun: Begun) -> Packing:
        threads = min(self._settings.workers, os.cpu_count() or 1)
        readable = [one for one in readable_codecs() if one in begun.codecs]
        return Packing(begun.codec, readable, threads, self._pace.line_rate)

    def _seal(self, body: Dict[str, Any], used: Used, doubtful: bool) -> str:
        """The version; ``doubtful``: what was known was wrong, so nothing is known of it."""
        if doubtful:
            self._ledger.distrust()
            return self._talk.seal(self._talk.path, body)
        self._ledger.promise(self._talk.path, used)
        version = self._talk.seal(self._talk.path, body)
        self._ledger.seal(version)
        return version
