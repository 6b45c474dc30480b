"""What orders mean on Windows: a run by a snapshot. The counterpart of ``work/linux.py``.

There is no ledger of written blocks, so nothing is kept between runs, and nothing shared by two
servers but the moment in which a set of snapshots is made: Windows makes one at a time.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, Optional, Sequence, Tuple

from notfallserver.agent.applications.application import Applied
from notfallserver.agent.config import Settings
from notfallserver.agent.disks.outside import no_directory, on_own_disk
from notfallserver.agent.disks.windows import machine_facts, see_disks
from notfallserver.agent.ntfs.boot import Unreadable
from notfallserver.agent.servers import Server
from notfallserver.agent.stop import Stop
from notfallserver.agent.windows.answers import BadAnswer
from notfallserver.agent.windows.asking import Asking, remember_near
from notfallserver.agent.windows.boot import boot_id
from notfallserver.agent.windows.com import ComError
from notfallserver.agent.windows.drivers import DriverKeeper
from notfallserver.agent.windows.moment import Take
from notfallserver.agent.windows.network import NetworkKeeper
from notfallserver.agent.windows.outside import is_outside
from notfallserver.agent.windows.replication import WindowsReplication
from notfallserver.agent.windows.standoff import Standoff
from notfallserver.agent.windows.survey import see_volumes
from notfallserver.agent.windows.system import Refused, System, failed
from notfallserver.agent.windows.vss import SnapshotSet
from notfallserver.agent.work.base import Connect, Host, Run, Work
from notfallserver.wire.facts import Machine

log = logging.getLogger("notfall-agent")


class WindowsHost(Host):
    """``directory`` has what belongs to the machine; ``take`` makes the snapshots of a run."""

    def __init__(self, directory: Path, system: System, take: Take, stop: Stop) -> None:
        self.system = system
        self.stop = stop
        self._take = take
        self._taking = threading.Lock()
        self._drivers = DriverKeeper(directory, system)
        self._network = NetworkKeeper(directory, system)
        self._settling = threading.Lock()
        asking = Asking(directory, lambda: boot_id(system))
        self.standoff = Standoff(directory, system, stop, asking)
        self.directory = directory

    def come_up(self) -> None:
        self._guarded(self.standoff.begin)

    def stay_off(self) -> bool:
        return self._guarded(self.standoff.stay_off) is True

    @staticmethod
    def _guarded(act: Callable[[], Optional[bool]]) -> Optional[bool]:
        """Whatever goes wrong is no reason not to work: the server's order comes again."""
        try:
            return act()
        except Exception:
            log.exception("this machine can't keep off the network")
            return False

    def begin(self, settings: Settings) -> None:
        if settings.nice:
            try:
                self.system.settle_down()
            except Refused as error:
                log.warning("the agent works with the usual priority (%s)", error)

    def take(self, volumes: Sequence[str]) -> Tuple[SnapshotSet, Tuple[Applied, ...]]:
        """One after another: a second set that is begun meanwhile is refused by Windows."""
        while not self._taking.acquire(timeout=1.0):
            self.stop.check()
        try:
            return self._take(volumes)
        finally:
            self._taking.release()

    def settle(self) -> None:
        """What the first start on other hardware needs, until it is done; see ``network.py``."""
        if self.standoff.off:
            self._guarded(self.standoff.settle)
            return
        if self._settling.acquire(blocking=False):  # else another server's duty is at it
            try:
                self._drivers.settle()  # a card without its driver has no addresses to set
                self._network.settle()
            finally:
                self._settling.release()

    def work(self, server: Server, settings: Settings) -> Work:
        return WindowsWork(self, settings)


class WindowsWork(Work):
    passing = (*Work.passing, Refused, BadAnswer, ComError, Unreadable)
    log_place = "See the event log on the primary: Application, source NotfallAgent."
    longest_pause = 10.0
    """Shorter than on Linux: nothing else keeps a returning original off."""

    def __init__(self, host: WindowsHost, settings: Settings) -> None:
        self._host = host
        self._system = host.system
        self._settings = settings
        self._working = threading.Lock()

    def boot_id(self) -> str:
        return boot_id(self._system)

    def facts(self) -> Machine:
        try:
            return machine_facts(self._system, see_disks(self._system, self._settings.disks))
        except Refused as error:
            raise failed("This machine", error) from None

    def settle(self) -> None:
        self._host.settle()

    def remember(self, url: str, near: Sequence[str]) -> None:
        remember_near(self._host.directory, url, near)

    def stay_off(self) -> bool:
        return self._host.stay_off()

    def check_seed(self, to: Path) -> None:
        """Whether the service runs is asked by who is called (``main.py``)."""
        try:
            to.stat()
        except OSError as error:
            raise no_directory(to, error) from None
        disks = see_disks(self._system, self._settings.disks)
        if not is_outside(os.path.realpath(to), disks, see_volumes(self._system)):
            raise on_own_disk(to)

    @contextmanager
    def replication(self, connect: Connect, deep: bool) -> Iterator[Run]:
        """Deep or not: every run on Windows reads all that is in use."""
        host = self._host
        with self._working:
            yield WindowsReplication(
                self._settings, self._system, host.take, connect, host.stop, deep
            )

    def leave_off(self, keep: bool, down: bool, seconds: float) -> None:
        """A run lets go of its snapshots, if it has the time; else they end with the process."""
        if not self._working.acquire(timeout=seconds):
            log.warning("a replication did not end in time")
            return
        self._working.release()
