"""What orders mean on Linux: a run with what is known of written blocks, a handover, the fence."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Iterator, List, Optional, Sequence

from notfallserver.agent.applications.leftovers import Notes, thaw_applications
from notfallserver.agent.changes.boots import going_down
from notfallserver.agent.changes.ledger import Ledger, open_ledger
from notfallserver.agent.config import Settings
from notfallserver.agent.disks.linux import machine_facts, protected_disks
from notfallserver.agent.disks.outside import require_outside
from notfallserver.agent.fence.order import obey
from notfallserver.agent.fence.own import remember
from notfallserver.agent.freeze.linux import thaw_leftovers
from notfallserver.agent.gentle import settle_down
from notfallserver.agent.handover.departure import Departure, finish_leftovers
from notfallserver.agent.handover.note import Note
from notfallserver.agent.handover.off import switch_off
from notfallserver.agent.handover.services import Services, can_hand_over
from notfallserver.agent.meeting import Meeting
from notfallserver.agent.place import Place, boot_id, take_lock
from notfallserver.agent.report import tell_system
from notfallserver.agent.run import Replication
from notfallserver.agent.servers import Server
from notfallserver.agent.stop import Stop
from notfallserver.agent.work.base import HAND_OVER, Connect, Farewell, Host, Run, Work
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

log = logging.getLogger("notfall-agent")


class LinuxWork(Work):
    """Runs of all servers come together at the ``meeting``."""

    log_place = "See its log on the primary: journalctl -u notfall-agent"

    def __init__(self, server: Server, settings: Settings, stop: Stop, meeting: Meeting) -> None:
        self._name = server.name
        self._machine = server.machine
        self._place = Place(server.directory, server.machine)
        self._settings = settings
        self._stop = stop
        self._meeting = meeting
        self._working = threading.Lock()
        """Held while the ledger is worked with."""
        self._ledger: Optional[Ledger] = None

    # -- telling ---------------------------------------------------------------------------------

    def boot_id(self) -> str:
        return boot_id()

    def facts(self) -> Machine:
        return machine_facts(protected_disks(self._settings.disks))

    def can(self) -> List[str]:
        return [HAND_OVER] if can_hand_over() else []

    def tell_system(self) -> bool:
        return tell_system()

    # -- between orders --------------------------------------------------------------------------

    def prepare(self) -> None:
        """Start the tracker at once; a trouble with disks is told again by the replication."""
        with self._working:
            self.ledger()

    def remember(self, url: str, near: Sequence[str]) -> None:
        remember(self._machine, url, near)

    # -- orders ----------------------------------------------------------------------------------

    @contextmanager
    def replication(self, connect: Connect, deep: bool) -> Iterator[Run]:
        with self._working:
            yield self._run(connect, deep, self._meeting, None)

    def departing(self, connect: Connect, farewell: Farewell) -> AbstractContextManager[Run]:
        note = Note(self._place.stopped)
        services = Services(note, self._settings.keep_services, self._settings.stop_seconds)
        return self.depart(connect, Departure(note, services, farewell, switch_off))

    @contextmanager
    def depart(self, connect: Connect, departure: Departure) -> Iterator[Run]:
        """As :meth:`departing`, by the given means."""
        with self._working:
            # Nobody may lead the last run: who leads thaws.
            yield self._run(connect, False, Meeting(), departure)

    def _run(
        self, connect: Connect, deep: bool, meeting: Meeting, departure: Optional[Departure]
    ) -> Replication:
        return Replication(
            self._settings,
            self._place,
            protected_disks(self._settings.disks),
            self.ledger(),
            connect,
            self._stop,
            meeting,
            deep,
            departure,
        )

    def stay_off(self) -> bool:
        return obey()

    def check_seed(self, to: Path) -> None:
        try:
            os.close(take_lock(self._place.lock))
        except OSError:
            raise NotfallError(
                "agent-running",
                "The agent's service is running, and only one of both can know what is written.",
                "Stop it (systemctl stop notfall-agent), make the seed, and start it again.",
            ) from None
        require_outside(to, protected_disks(self._settings.disks))

    # -- what is known of written blocks ---------------------------------------------------------

    def ledger(self) -> Ledger:
        """What is known; nothing any more if disks or partitions changed or writes were missed."""
        disks = protected_disks(self._settings.disks)
        if self._ledger is not None and (why := self._ledger.unfit(disks)):
            log.warning("%s: reading all again: %s", self._name, why)
            self._ledger.close()
            self._ledger = None
        if self._ledger is None:
            self._ledger = open_ledger(disks, self._place, self._settings.primary)
            if not self._ledger.knows:
                log.warning(
                    "%s: no write tracker here: only what files prove to be unchanged is not read",
                    self._name,
                )
        return self._ledger

    def leave_off(self, keep: bool, down: bool, seconds: float) -> None:
        """What is not pinned is lost with a run that does not end in time, and nothing wrong is
        written down."""
        if not self._working.acquire(timeout=seconds):
            log.warning("%s: a replication did not end in time", self._name)
            return
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            if keep and (down or not ledger.pinned):
                ledger.keep(self._place, self._settings.primary, down)
            ledger.close()
        if not keep:
            self._working.release()


class LinuxHost(Host):
    restarts = True  # systemd does

    def __init__(self, directory: Path, stop: Stop) -> None:
        self._place = Place(directory)
        self._stop = stop
        self._meeting = Meeting()

    def begin(self, settings: Settings) -> None:
        settle_down(settings.nice)
        for place in thaw_leftovers(self._place.note):
            log.warning("thawed %s, which an agent that was killed had left frozen", place)
        for line in thaw_applications(Notes(self._place.common)):
            log.warning("%s", line)
        if done := go_on_after_handover(self._place):
            log.warning("%s", done)

    def going_down(self) -> bool:
        return going_down()

    def work(self, server: Server, settings: Settings) -> LinuxWork:
        return LinuxWork(server, settings, self._stop, self._meeting)


def go_on_after_handover(place: Place) -> str:
    """What an agent that was killed had shut down; see :func:`finish_leftovers`."""
    note = Note(place.stopped)
    return finish_leftovers(note, Services(note, [], 0)) if note.read() else ""
