"""What the agent does for one server: polls it, replicates on order, keeps what it knows.

The poll is the heartbeat; it goes on (marked busy) in a thread of its own while a replication
runs. An unreachable server is tried again for ever, at most a minute apart.
"""

from __future__ import annotations

import logging
import os
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, MutableMapping, Optional, Tuple

from notfallserver import VERSION
from notfallserver.agent import config
from notfallserver.agent.changes.ledger import Ledger, open_ledger
from notfallserver.agent.config import Settings
from notfallserver.agent.disks.linux import machine_facts, protected_disks
from notfallserver.agent.fence.order import obey
from notfallserver.agent.fence.own import remember
from notfallserver.agent.handover.departure import Departure
from notfallserver.agent.handover.note import Note
from notfallserver.agent.handover.off import switch_off
from notfallserver.agent.handover.services import Services, can_hand_over
from notfallserver.agent.line import Line
from notfallserver.agent.meeting import Meeting
from notfallserver.agent.outcome import Outcome
from notfallserver.agent.place import boot_id, take_lock
from notfallserver.agent.report import tell_system
from notfallserver.agent.role import recovery, role
from notfallserver.agent.run import Replication
from notfallserver.agent.seed import SeedDesk, check_place, seed_lines
from notfallserver.agent.servers import Server
from notfallserver.agent.stop import Stop
from notfallserver.wire.client import Client, Throttle
from notfallserver.wire.errors import NotfallError

POLL_TIMEOUT = 30.0
HEARTBEAT = 1.0
"""Between two polls while busy, in seconds; the server holds each for 5 s besides."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
HAND_OVER = "hand-over"
"""The order for a planned handover, and what an agent says that it can do."""
_STANDOFF_PAUSE = 5.0
"""Between two polls of a machine that ought to leave the network, and can't."""


if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter  # takes no parameter before Python 3.11


class _Named(_Adapter):
    """Says which server a line is about."""

    def __init__(self, server: str) -> None:
        super().__init__(logging.getLogger("notfall-agent"), {})
        self._server = server

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> Tuple[Any, MutableMapping[str, Any]]:
        return f"{self._server}: {msg}", kwargs


class Duty:
    """One per server. Runs of all of them come together at the ``meeting``.

    Its own thread works with it, except for :meth:`leave_off`.
    """

    def __init__(self, server: Server, stop: Stop, meeting: Meeting) -> None:
        self._server = server
        self._machine = server.machine
        self._place = server.place
        self._stop = stop
        self._meeting = meeting
        self._settings = server.settings()
        self._log = _Named(server.name)
        self._working = threading.Lock()
        """Held while the ledger is worked with."""
        self._ledger: Optional[Ledger] = None
        self._pinned: Optional[Settings] = None  # in a handover, where names are not known any more
        self._untold: Optional[NotfallError] = None  # a failure that no run could report
        self._may_stay = False  # was ordered off the network, and nothing here can do it

    # -- serving ---------------------------------------------------------------------------------

    def serve(self) -> None:
        """Work until asked to leave."""
        self.watch_early()
        client = config.connect(self._server.directory, self._settings)
        pause = _FIRST_PAUSE
        first = True
        while True:
            self._stop.check()
            try:
                answer = client.call(
                    "POST", "/agent/v1/poll", self.poll_body(first, False), POLL_TIMEOUT
                )
                if first:
                    self._remember(answer.get("near"))
                first, pause, self._untold = False, _FIRST_PAUSE, None
            except NotfallError as error:
                self._log.warning("poll: %s", error)
                if self._role() == "stand-in" and not tell_system():
                    pause = _FIRST_PAUSE  # of a rehearsal: soon there is more to tell
                self._stop.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            if answer.get("order") == "replicate" and self._role() == "primary":
                self._replicate_beating(partial(self.replicate, answer.get("deep") is True))
            elif answer.get("order") == HAND_OVER and self._role() == "primary":
                self._replicate_beating(self.hand_over)
            elif answer.get("order") == "stay-off" and self._role() == "primary":
                self._may_stay = self._may_stay or not obey()
                self._stop.wait(_STANDOFF_PAUSE if self._may_stay else _FIRST_PAUSE)
            elif answer.get("order") != "none":
                self._stop.wait(_FIRST_PAUSE)

    def watch_early(self) -> None:
        """Start the tracker at once; a trouble with disks is told again by the replication."""
        if self._role() == "stand-in":
            return
        try:
            with self._working:
                self.ledger()
        except NotfallError as error:
            self._log.warning("%s", error)

    def _role(self) -> str:
        return role(self._machine)

    def poll_body(self, facts: bool, busy: bool) -> Dict[str, Any]:
        """What is told with a poll; ``facts``: with those of the machine."""
        body: Dict[str, Any] = {
            "boot_id": boot_id(),
            "role": self._role(),
            "recovery": recovery(self._machine),
            "agent": VERSION,
            "busy": busy,
            "can": [HAND_OVER] if can_hand_over() else [],
        }
        if self._untold is not None:
            body["failed"] = self._untold.to_json()
        if facts:
            body["near"] = True  # where the server is found by a machine without an address
            try:
                body["machine"] = machine_facts(protected_disks(self._settings.disks)).to_json()
            except NotfallError as error:
                self._log.warning("%s", error)
        return body

    def _remember(self, near: Any = None) -> None:
        """The addresses that this machine has now, for its next start."""
        if self._role() == "primary":
            told = [str(one) for one in near] if isinstance(near, list) else []
            remember(self._machine, self._settings.url if told else "", told)

    def _replicate_beating(self, replicate: Callable[[], Outcome]) -> None:
        self._remember()
        over = threading.Event()
        self._start_heart(over)
        try:
            outcome = replicate()
            self._log.info("version %s: %s", outcome.version, outcome)
            for one in outcome.applications:
                if one.error:
                    self._log.warning("%s did not stand still: %s", one.name, one.error)
            if outcome.unexplained:
                self._log.error("%d blocks had changed without being seen", outcome.unexplained)
        except NotfallError as error:
            self._log.error("replication failed: %s [%s]", error, error.code)
        except (OSError, RuntimeError, ValueError, MemoryError) as error:
            self._log.exception("replication failed")
            self._untold = _failed(error)
        finally:
            over.set()

    def _start_heart(self, over: threading.Event) -> None:
        threading.Thread(target=self._beat, args=(over,), daemon=True).start()

    def _beat(self, over: threading.Event) -> None:
        """Keep polling while busy; orders given meanwhile are given again later."""
        client = self._client(None)
        while not over.wait(HEARTBEAT):
            try:
                client.call("POST", "/agent/v1/poll", self.poll_body(False, True), POLL_TIMEOUT)
            except NotfallError:
                pass  # the replication itself says when the server is away for long
        client.close()

    # -- replicating -----------------------------------------------------------------------------

    def _client(self, throttle: Optional[Throttle]) -> Client:
        settings = self._pinned or self._settings
        return config.connect(self._server.directory, settings, throttle)

    def replicate(self, deep: bool = False) -> Outcome:
        """One run now; a deep one reads all, whatever is known."""

        def connect(throttle: Optional[Throttle]) -> Line:
            return Line(self._client(throttle), self._stop)

        return self._replicate(connect, deep)

    def hand_over(self) -> Outcome:
        """The last version of this machine, and its end: on success this does not return."""
        note = Note(self._place.stopped)
        try:
            self._pinned = config.pinned(self._settings)
        except NotfallError as error:
            self._untold = error
            raise
        client = self._client(None)
        departure = Departure(
            note,
            Services(note, self._settings.keep_services, self._settings.stop_seconds),
            lambda body: client.call("POST", "/agent/v1/farewell", body, timeout=10),
            switch_off,
        )
        try:
            return self.depart(departure)
        finally:
            client.close()
            self._pinned = None

    def depart(self, departure: Departure) -> Outcome:
        """As :meth:`hand_over`, by the given means."""

        def connect(throttle: Optional[Throttle]) -> Line:
            return Line(self._client(throttle), self._stop)

        return self._replicate(connect, departure=departure)

    def seed(self, to: Path) -> Tuple[Outcome, Path]:
        """A first copy into a new directory below ``to``; the outcome, and that directory."""
        try:
            os.close(take_lock(self._place.lock))
        except OSError:
            raise NotfallError(
                "agent-running",
                "The agent's service is running, and only one of both can know what is written.",
                "Stop it (systemctl stop notfall-agent), make the seed, and start it again.",
            ) from None
        check_place(to, protected_disks(self._settings.disks))
        line = Line(self._client(None), self._stop)
        over = threading.Event()
        self._start_heart(over)
        desk: Optional[SeedDesk] = None
        try:
            desk = SeedDesk(to, self._settings.primary, line)
            return self._replicate(seed_lines(desk)), desk.writer.directory
        finally:
            over.set()
            if desk is not None:
                desk.writer.close()
            line.close()

    def _replicate(
        self,
        connect: Callable[[Optional[Throttle]], Line],
        deep: bool = False,
        departure: Optional[Departure] = None,
    ) -> Outcome:
        replication: Optional[Replication] = None
        if self._role() == "stand-in":
            raise NotfallError(
                "is-stand-in",
                "This machine is a stand-in: its emergency server saves it by itself.",
                "Bring the primary back; then it is replicated again.",
            )
        try:
            with self._working:
                replication = Replication(
                    self._settings,
                    self._place,
                    protected_disks(self._settings.disks),
                    self.ledger(),
                    connect,
                    self._stop,
                    # Nobody may lead the last run: who leads thaws.
                    self._meeting if departure is None else Meeting(),
                    deep,
                    departure,
                )
                return replication.run()
        except (NotfallError, OSError) as error:
            failed = error if isinstance(error, NotfallError) else _failed(error)
            if replication is None or not replication.begun:
                self._untold = failed
            raise failed from error

    def ledger(self) -> Ledger:
        """What is known; nothing any more if disks or partitions changed or writes were missed."""
        disks = protected_disks(self._settings.disks)
        if self._ledger is not None and not self._ledger.fits(disks):
            self._log.warning(
                "disks or partitions changed, or writes were missed: reading all again"
            )
            self._ledger.close()
            self._ledger = None
        if self._ledger is None:
            self._ledger = open_ledger(disks, self._place, self._settings.primary)
            if not self._ledger.knows:
                self._log.warning(
                    "no write tracker here: only what files prove to be unchanged is not read"
                )
        return self._ledger

    def leave_off(self, keep: bool, down: bool, seconds: float) -> None:
        """Let go of what is known; ``keep``: write down before what would be lost.

        Any thread may do so. A run that does not end within so many seconds keeps it: what is not
        pinned is then lost, and nothing wrong is written down. No run may follow.
        """
        if not self._working.acquire(timeout=seconds):
            self._log.warning("a replication did not end in time")
            return
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            if keep and (down or not ledger.pinned):
                ledger.keep(self._place, self._settings.primary, down)
            ledger.close()
        if not keep:
            self._working.release()


def _failed(error: Exception) -> NotfallError:
    return NotfallError(
        "agent-failed",
        f"The agent could not go on ({error}).",
        "See its log on the primary: journalctl -u notfall-agent",
        retry=True,
    )
