"""Versions that are open for looking at: each has an isolated appliance, shared by all readers.

One thread holds what belongs to an open version (clones, appliance, line) from beginning to end. It
ends, and with it all of that, when a person closes the version, when nobody has looked for a while,
when the appliance no longer answers, or with the server. What a killed server left is removed at
the next start with the other clones; its appliance ends by itself when its line is cut.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from enum import StrEnum

from notfallserver.server.cycle.browse.names import shown
from notfallserver.server.cycle.browse.sftp import SftpClient
from notfallserver.server.cycle.browse.tree import VolumeTree
from notfallserver.server.cycle.means import Means
from notfallserver.server.pool.version import Version
from notfallserver.server.records.events import PrimaryChanged
from notfallserver.server.rescue_medium import find_medium
from notfallserver.server.vm.appliance import ShownVolume, serving_files
from notfallserver.server.vm.spec import Accelerator
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

log = logging.getLogger(__name__)

MOST_OPEN = 3
"""Each takes the memory of its appliance (1 GiB)."""
IDLE_S = 600.0
TICK_S = 1.0
END_S = 30.0
"""So long the server's end waits for the appliances to be gone."""
THREADS = 4
"""For each open version: an appliance that hangs holds up its own readers only."""
VOLUMES = b"/volumes/"


class Phase(StrEnum):
    CLONING = "cloning"
    STARTING = "starting"
    OPEN = "open"
    FAILED = "failed"


@dataclass(frozen=True)
class Showing:
    """How far an open version is; ``since`` is the monotonic clock at its opening, in seconds.

    ``notes`` are volumes that can't be shown, and why; ``error`` is why all failed.
    """

    primary: str
    stamp: str
    phase: Phase
    since: float
    volumes: tuple[ShownVolume, ...] = ()
    notes: tuple[str, ...] = ()
    error: NotfallError | None = None


@dataclass
class _Open:
    """``copied`` are the (person, volume, path) that the journal has."""

    primary: str
    version: Version
    phase: Phase = Phase.CLONING
    since: float = field(default_factory=time.monotonic)
    volumes: tuple[ShownVolume, ...] = ()
    notes: tuple[str, ...] = ()
    error: NotfallError | None = None
    client: SftpClient | None = None
    readers: set[str] = field(default_factory=set)
    copied: set[tuple[str, str, bytes]] = field(default_factory=set)
    over: threading.Event = field(default_factory=threading.Event)
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(THREADS, "files")
    )
    holder: threading.Thread | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.primary, self.version.stamp

    def showing(self) -> Showing:
        return Showing(
            self.primary,
            self.version.stamp,
            self.phase,
            self.since,
            self.volumes,
            self.notes,
            self.error,
        )


class Shelf:
    """The open versions of one server. Thread-safe; primaries are named by UUID."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._lock = threading.Lock()
        self._open: dict[tuple[str, str], _Open] = {}
        self._ending: list[threading.Thread] = []

    def open(self, primary: str, stamp: str, who: str) -> Showing:
        """Begin to open a version, or join those who look at it already."""
        version = self._means.pool.primary(primary).version(stamp)
        if find_medium(self._means.rescue_dir) is None:
            raise NotfallError(
                "no-medium",
                "The rescue system, which opens images, is not built yet.",
                "Wait a few minutes, or run 'notfall rescue build'.",
                retry=True,
                status=409,
            )
        with self._lock:
            one = self._open.get((primary, stamp))
            if one is None or one.phase is Phase.FAILED:
                self._refuse_too_many()
                one = self._open[(primary, stamp)] = _Open(primary, version)
                before = [each for each in self._ending if each.is_alive()]
                one.holder = threading.Thread(target=self._hold, args=(one, before), daemon=True)
                one.holder.start()
        self._note_reader(one, who)
        return one.showing()

    def showing(self, primary: str, stamp: str) -> Showing | None:
        """How far it is; None for a version that is closed."""
        with self._lock:
            one = self._open.get((primary, stamp))
            return one.showing() if one else None

    def all(self) -> list[Showing]:
        """What is open or being opened, the oldest first."""
        with self._lock:
            found = [one.showing() for one in self._open.values()]
        return sorted(
            (one for one in found if one.phase is not Phase.FAILED), key=lambda one: one.since
        )

    def volume(self, primary: str, stamp: str, name: str, who: str) -> VolumeTree:
        """A volume to look at; that ``who`` looks at this version is in the journal then."""
        one = self._need(primary, stamp)
        if one.client is None or name not in {each.name for each in one.volumes}:
            raise NotfallError("no-such-file", "This is not in the copy.", status=404)
        self._note_reader(one, who)
        return VolumeTree(one.client, VOLUMES + name.encode(), one.threads)

    def note_copied(
        self, primary: str, stamp: str, volume: str, path: bytes, who: str, again: bool
    ) -> None:
        """Journal that something was copied out; ``again`` goes on with what was cut off."""
        one = self._need(primary, stamp)
        key = (who, volume, path)
        with self._lock:
            if again and key in one.copied:
                return
            one.copied.add(key)
        told = "/" + shown(path)
        self._means.catalogue.journal.write(
            primary,
            "files-copied",
            who,
            f"{volume}: {told}"[:1000],
            {"version": stamp, "volume": volume, "path": told},
        )

    def close(self, primary: str, stamp: str | None = None) -> None:
        """Close a version, or all of a primary; what is being copied out breaks off."""
        with self._lock:
            for one in [each for each in self._open.values() if each.primary == primary]:
                if stamp in (None, one.version.stamp):
                    self._end(one)

    def close_all(self) -> None:
        """At the server's own end; returns when the appliances are gone."""
        with self._lock:
            for one in list(self._open.values()):
                self._end(one)
            holders = list(self._ending)
        until = time.monotonic() + END_S
        for holder in holders:
            holder.join(max(0.0, until - time.monotonic()))

    # -- the life of one -------------------------------------------------------------------------

    def _hold(self, one: _Open, before: list[threading.Thread]) -> None:
        try:
            for thread in before:  # an appliance is named after its clones: not two at once
                thread.join()
            self._show(one)
        except NotfallError as error:
            self._fail(one, error)
        except Exception:
            log.exception("files of %s", one.version.stamp)
            self._fail(one, NotfallError("internal", "The copy could not be opened.", status=500))
        finally:
            one.threads.shutdown(wait=False, cancel_futures=True)
            self._tell(one)

    def _show(self, one: _Open) -> None:
        means, version = self._means, one.version
        medium = find_medium(means.rescue_dir)
        if medium is None:
            raise NotfallError("no-medium", "The rescue system was removed.", status=409)
        machine = version.manifest.machine
        with ExitStack() as stack:
            store = means.pool.primary(one.primary)
            clones = stack.enter_context(store.working_clones(version, f"browse-{version.stamp}"))
            self._enter(one, Phase.STARTING)
            served = stack.enter_context(
                serving_files(
                    means.hypervisor,
                    medium,
                    clones.disks,
                    Accelerator(means.settings.accelerator),
                    [disk.sector for disk in machine.disks],
                    machine.to_json(),
                    _giving_up(one.over),
                )
            )
            line = stack.enter_context(socket.socket(socket.AF_UNIX))
            line.connect(str(served.socket))
            client = stack.enter_context(closing(SftpClient(line)))
            one.client, one.volumes = client, placed(served.volumes, machine)
            one.notes = tuple(str(note.get("text", ""))[:500] for note in served.warnings)
            self._enter(one, Phase.OPEN)
            while not one.over.wait(TICK_S):
                if client.broken or time.monotonic() - client.used > IDLE_S:
                    break
            with self._lock:  # before the appliance goes: nobody is to begin something now
                self._end(one)
            self._tell(one)

    def _enter(self, one: _Open, phase: Phase) -> None:
        one.phase = phase
        self._tell(one)

    def _fail(self, one: _Open, error: NotfallError) -> None:
        with self._lock:
            if one.over.is_set():
                return
            log.warning("files of %s can't be shown: %s", one.version.stamp, error)
            one.error, one.phase = error, Phase.FAILED

    def _end(self, one: _Open) -> None:
        one.over.set()
        if self._open.get(one.key) is one:
            del self._open[one.key]
        self._ending = [each for each in self._ending if each.is_alive()]
        if one.holder is not None:
            self._ending.append(one.holder)

    def _tell(self, one: _Open) -> None:
        self._means.catalogue.events.tell(PrimaryChanged(one.primary))

    def _need(self, primary: str, stamp: str) -> _Open:
        with self._lock:
            one = self._open.get((primary, stamp))
        if one is None or one.phase is not Phase.OPEN:
            raise NotfallError(
                "files-closed",
                "The files of this copy are not open, or no longer.",
                "Open the copy again.",
                status=409,
            )
        return one

    def _refuse_too_many(self) -> None:
        at_work = [one for one in self._open.values() if one.phase is not Phase.FAILED]
        if len(at_work) >= MOST_OPEN:
            raise NotfallError(
                "too-many-open",
                f"{len(at_work)} copies are open already, and each takes much memory.",
                "Close one of them, or wait: a copy that nobody looks at is closed after "
                "ten minutes.",
                retry=True,
                status=409,
            )

    def _note_reader(self, one: _Open, who: str) -> None:
        """What a copy holds is confidential: who opened it is kept, once for each person."""
        with self._lock:
            if who in one.readers:
                return
            one.readers.add(who)
        self._means.catalogue.journal.write(
            one.primary, "files-shown", who, details={"version": one.version.stamp}
        )


def placed(volumes: Sequence[ShownVolume], machine: Machine) -> tuple[ShownVolume, ...]:
    """By mount point: as the primary told it with the version, else as the image's fstab says."""
    told = {
        (at, part.number): part.mountpoint
        for at, disk in enumerate(machine.disks)
        for part in disk.partitions
        if part.mountpoint.startswith("/")
    }
    found = [
        replace(one, mount=told.get((one.disk, one.partition)) or one.mount) for one in volumes
    ]
    return tuple(sorted(found, key=lambda one: (not one.mount, one.mount, one.name)))


def _giving_up(over: threading.Event) -> Callable[[], None]:
    def check() -> None:
        if over.is_set():
            raise NotfallError("files-closed", "The copy was closed while it opened.", status=409)

    return check
