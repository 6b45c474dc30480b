"""Freezing all filesystems of the protected disks together for a moment.

Inner mounts first, thawed in reverse. Everything is opened and started before; between the first
freeze and the last thaw nothing is opened, logged, imported or started, because each of these
may write to a frozen filesystem and wait for ever. A note (in memory, see ``place.py``) tells a
later start what a killed agent may have left frozen. Only one freeze at a time in this process.
"""

from __future__ import annotations

import errno
import gc
import os
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Iterator, List, Sequence

from notfallserver.agent import kernel
from notfallserver.agent.disks.mounts import Mount, open_mount
from notfallserver.agent.freeze.watchdog import Watchdog
from notfallserver.agent.stop import Stop
from notfallserver.wire.errors import NotfallError

QUIET = ("vfat", "msdos")
"""Can't be frozen, but change so seldom that written out they count as still."""
ALONE = threading.RLock()
"""Held from before a freeze until after it: runs for two servers never freeze at the same time."""
_CANNOT = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS)


@dataclass
class Held:
    """What the freeze achieved."""

    frozen_at: str = ""
    began: float = 0.0
    milliseconds: float = 0.0
    still_at: float = 0.0  # when the last filesystem froze, by the monotonic clock
    loose: List[str] = field(default_factory=list)  # mounts that could not be held still

    @property
    def consistency(self) -> str:
        return "crash" if self.loose else "filesystem"


@dataclass(frozen=True)
class _Open:
    mount: Mount
    handle: int


class Freezer:
    """Made before the freeze; used as a context manager that closes what it opened."""

    def __init__(
        self, groups: Sequence[Sequence[Mount]], deadline: float, stop: Stop, note: Path
    ) -> None:
        self._stop = stop
        self._note = note
        self._cleanup = ExitStack()
        self._open: List[_Open] = []
        self._hidden: List[str] = []
        with ExitStack() as cleanup:
            for group in groups:
                for mount in group:
                    handle = open_mount(mount)
                    if handle >= 0:
                        cleanup.callback(os.close, handle)
                        self._open.append(_Open(mount, handle))
                        break
                else:
                    self._hidden.append(group[0].place)
            self._watchdog = Watchdog([one.handle for one in self._open], deadline)
            cleanup.callback(self._watchdog.close)
            self._cleanup = cleanup.pop_all()

    def __enter__(self) -> Freezer:
        ALONE.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._cleanup.close()
        finally:
            ALONE.release()

    @property
    def watchdog_pid(self) -> int:
        return self._watchdog.pid

    def write_out(self) -> None:
        """Write everything out, so that the freeze itself has little to write."""
        for one in reversed(self._open):
            with suppress(OSError):
                kernel.sync_filesystem(one.handle)

    @contextmanager
    def hold(self) -> Iterator[Held]:
        """Within the block everything is frozen. Leaving it fails if the freeze did not last."""
        held = Held(loose=list(self._hidden))
        frozen: List[_Open] = []
        lost: List[str] = []
        self._note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._note.write_text("\n".join(one.mount.place for one in self._open))
        with suppress(OSError):
            kernel.lock_memory()
        collecting = gc.isenabled()
        gc.disable()
        try:
            with self._stop.critical():
                self._watchdog.arm()
                held.began = time.monotonic()
                try:
                    for one in self._open:
                        self._freeze(one, frozen, held)
                    held.still_at = time.monotonic()
                    held.frozen_at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
                    yield held
                finally:
                    lost += _thaw(frozen)
                    held.milliseconds = (time.monotonic() - held.began) * 1000
                    self._watchdog.disarm()
        finally:
            if collecting:
                gc.enable()
            with suppress(OSError):
                kernel.unlock_memory()
            self._note.unlink(missing_ok=True)
        if lost:
            raise NotfallError(
                "freeze-lost",
                f"{', '.join(lost)} was thawed before everything was read.",
                "It took longer than the deadline, or another program thawed it; try again.",
                retry=True,
            )

    def _freeze(self, one: _Open, frozen: List[_Open], held: Held) -> None:
        try:
            kernel.ioctl(one.handle, kernel.FIFREEZE)
            frozen.append(one)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise NotfallError(
                    "frozen-by-other",
                    f"{one.mount.place} is already frozen by another program.",
                    f"Let it finish, or thaw it: fsfreeze --unfreeze {one.mount.place}",
                    retry=True,
                ) from None
            if error.errno not in _CANNOT:
                raise NotfallError(
                    "freeze-failed",
                    f"{one.mount.place} cannot be frozen ({error.strerror}).",
                    "Check this filesystem.",
                    retry=True,
                ) from None
            with suppress(OSError):
                kernel.sync_filesystem(one.handle)
            if one.mount.kind not in QUIET:
                held.loose.append(one.mount.place)


def write_out(groups: Sequence[Sequence[Mount]]) -> None:
    """Let filesystems write out what they hold in memory, without keeping them open."""
    for group in reversed(groups):
        handles = (open_mount(mount) for mount in group)
        handle = next((one for one in handles if one >= 0), -1)
        if handle < 0:
            continue
        try:
            kernel.sync_filesystem(handle)
        finally:
            os.close(handle)


def _thaw(frozen: Sequence[_Open]) -> List[str]:
    """Thaw in reverse; returns those that were not frozen any more."""
    lost = []
    for one in reversed(frozen):
        try:
            kernel.ioctl(one.handle, kernel.FITHAW)
        except OSError:
            lost.append(one.mount.place)
    return lost


def thaw_leftovers(note: Path) -> List[str]:
    """Thaw what a killed agent left frozen; returns the mount points that were."""
    try:
        places = note.read_text().splitlines()
    except OSError:
        return []
    thawed = []
    for place in reversed(places):
        try:
            handle = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            kernel.ioctl(handle, kernel.FITHAW)
            thawed.append(place)
        except OSError:
            pass  # it was not frozen
        finally:
            os.close(handle)
    note.unlink(missing_ok=True)
    return thawed
