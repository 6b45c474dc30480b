"""The agent's service: polls the server, replicates on order, keeps what it knows of the disks.

The poll is the heartbeat; it goes on (marked busy) in a thread of its own while a replication
runs. An unreachable server is tried again for ever, at most a minute apart.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

from notfallserver import VERSION
from notfallserver.agent import config
from notfallserver.agent.applications.leftovers import Notes, thaw_applications
from notfallserver.agent.changes.boots import going_down
from notfallserver.agent.changes.ledger import Ledger, open_ledger
from notfallserver.agent.config import Settings
from notfallserver.agent.disks.linux import machine_facts, protected_disks
from notfallserver.agent.freeze.linux import thaw_leftovers
from notfallserver.agent.gentle import settle_down
from notfallserver.agent.line import Line
from notfallserver.agent.outcome import Outcome
from notfallserver.agent.place import Place, boot_id, take_lock
from notfallserver.agent.run import Replication
from notfallserver.agent.seed import SeedDesk, check_place, seed_lines
from notfallserver.agent.stop import Stop, Stopped
from notfallserver.wire.client import Throttle
from notfallserver.wire.errors import NotfallError

log = logging.getLogger("notfall-agent")

POLL_TIMEOUT = 30.0
HEARTBEAT = 1.0
"""Between two polls while busy, in seconds; the server holds each for 5 s besides."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


class Service:
    """One per process."""

    def __init__(self, directory: Path, stop: Stop) -> None:
        self._directory = directory
        self._place = Place(directory)
        self._stop = stop
        self._settings: Settings = config.load_settings(directory)
        self._ledger: Optional[Ledger] = None
        self._untold: Optional[NotfallError] = None  # a failure that no run could report

    def serve(self) -> None:
        """Work until asked to leave."""
        settle_down(self._settings.nice)
        for place in thaw_leftovers(self._place.note):
            log.warning("thawed %s, which an agent that was killed had left frozen", place)
        for line in thaw_applications(Notes(self._place.directory)):
            log.warning("%s", line)
        try:
            self._watch_early()
            self._loop()
        except Stopped:
            log.info("asked to leave")
            self._keep()
        finally:
            self.close()

    def _keep(self) -> None:
        """Before what is known would be lost."""
        down = going_down()
        if self._ledger is not None and (down or not self._ledger.pinned):
            self._ledger.keep(self._place, self._settings.primary, down)

    def _watch_early(self) -> None:
        """Start the tracker at once; a trouble with disks is told again by the replication."""
        if config.role(self._directory) == "stand-in":
            return
        try:
            self._current_ledger()
        except NotfallError as error:
            log.warning("%s", error)

    def _loop(self) -> None:
        client = config.connect(self._directory, self._settings)
        pause = _FIRST_PAUSE
        first = True
        while True:
            self._stop.check()
            try:
                answer = client.call(
                    "POST", "/agent/v1/poll", self._poll_body(first, False), POLL_TIMEOUT
                )
                first, pause, self._untold = False, _FIRST_PAUSE, None
            except NotfallError as error:
                log.warning("poll: %s", error)
                self._stop.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            if answer.get("order") == "replicate" and self._role() == "primary":
                self._replicate_beating(answer.get("deep") is True)
            elif answer.get("order") != "none":
                self._stop.wait(_FIRST_PAUSE)

    def _role(self) -> str:
        return config.role(self._directory)

    def _poll_body(self, facts: bool, busy: bool) -> Dict[str, Any]:
        body: Dict[str, Any] = {
            "boot_id": boot_id(),
            "role": self._role(),
            "recovery": config.recovery(self._directory),
            "agent": VERSION,
            "busy": busy,
        }
        if self._untold is not None:
            body["failed"] = self._untold.to_json()
        if facts:
            try:
                body["machine"] = machine_facts(protected_disks(self._settings.disks)).to_json()
            except NotfallError as error:
                log.warning("%s", error)
        return body

    def _replicate_beating(self, deep: bool) -> None:
        over = threading.Event()
        self._start_heart(over)
        try:
            outcome = self.replicate(deep)
            log.info("version %s: %s", outcome.version, outcome)
            for one in outcome.applications:
                if one.error:
                    log.warning("%s did not stand still: %s", one.name, one.error)
            if outcome.unexplained:
                log.error("%d blocks had changed without being seen", outcome.unexplained)
        except NotfallError as error:
            log.error("replication failed: %s [%s]", error, error.code)
        except (OSError, RuntimeError, ValueError, MemoryError) as error:
            log.exception("replication failed")
            self._untold = _failed(error)
        finally:
            over.set()

    def _start_heart(self, over: threading.Event) -> None:
        threading.Thread(target=self._beat, args=(over,), daemon=True).start()

    def _beat(self, over: threading.Event) -> None:
        """Keep polling while busy; orders given meanwhile are given again later."""
        client = config.connect(self._directory, self._settings)
        while not over.wait(HEARTBEAT):
            try:
                client.call("POST", "/agent/v1/poll", self._poll_body(False, True), POLL_TIMEOUT)
            except NotfallError:
                pass  # the replication itself says when the server is away for long
        client.close()

    def replicate(self, deep: bool = False) -> Outcome:
        """One run now; a deep one reads all, whatever is known."""

        def connect(throttle: Optional[Throttle]) -> Line:
            client = config.connect(self._directory, self._settings, throttle)
            return Line(client, self._stop)

        return self._replicate(connect, deep)

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
        line = Line(config.connect(self._directory, self._settings), self._stop)
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
        self, connect: Callable[[Optional[Throttle]], Line], deep: bool = False
    ) -> Outcome:
        replication: Optional[Replication] = None
        try:
            disks = protected_disks(self._settings.disks)
            ledger = self._current_ledger()
            replication = Replication(
                self._settings, self._place, disks, ledger, connect, self._stop, deep
            )
            return replication.run()
        except (NotfallError, OSError) as error:
            failed = error if isinstance(error, NotfallError) else _failed(error)
            if replication is None or not replication.begun:
                self._untold = failed
            raise failed from error

    def _current_ledger(self) -> Ledger:
        """What is known; nothing any more if disks or partitions changed or writes were missed."""
        disks = protected_disks(self._settings.disks)
        if self._ledger is not None and not self._ledger.fits(disks):
            log.warning("disks or partitions changed, or writes were missed: reading all again")
            self._ledger.close()
            self._ledger = None
        if self._ledger is None:
            self._ledger = open_ledger(disks, self._place, self._settings.primary)
            if not self._ledger.knows:
                log.warning(
                    "no write tracker here: only what files prove to be unchanged is not read"
                )
        return self._ledger

    def close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None


def _failed(error: Exception) -> NotfallError:
    return NotfallError(
        "agent-failed",
        f"The agent could not go on ({error}).",
        "See its log on the primary: journalctl -u notfall-agent",
        retry=True,
    )
