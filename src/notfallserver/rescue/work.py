"""The orders of a recovery, one at a time, each repeatable: pull, adapt, reboot; and to give.

The report says at any moment how far things are. An order that is done already is reported as done;
one that failed is tried again when it is given again.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable, Dict, List, Mapping, Optional

from notfallserver.guest.adapt import adapt
from notfallserver.guest.hardware import own_hardware
from notfallserver.guest.larger import grow_disks
from notfallserver.guest.shell import run
from notfallserver.guest.volumes import table_of
from notfallserver.rescue.devices import with_ids
from notfallserver.rescue.give import Giver
from notfallserver.rescue.pull import Puller, PullProgress
from notfallserver.rescue.supply import DriverSupply
from notfallserver.rescue.targets import TargetDisk, check_disk, read_disks
from notfallserver.wire.client import Client
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine, read_machine

IDLE: Dict[str, Any] = {"state": "idle"}


class Work:
    """Runs orders in a thread of its own; :meth:`take` and :meth:`report` never wait."""

    def __init__(
        self,
        connect: Callable[[], Client],
        probe: Callable[[], Machine],
        reboot: Callable[[], None],
    ) -> None:
        self._connect = connect
        self._probe = probe
        self._reboot = reboot
        self._lock = threading.Lock()
        self._thread: Optional[threading.Thread] = None
        self._stopped = threading.Event()
        self._order = ""
        self._report: Dict[str, Any] = dict(IDLE)
        self._progress = PullProgress()
        self._puller: Optional[Puller] = None
        self._disks: List[TargetDisk] = []
        self._pulled: Dict[str, Any] = {}  # the last report "pulled"

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def report(self) -> Dict[str, Any]:
        with self._lock:
            told = dict(self._report)
        if told["state"] in ("pulling", "giving"):
            now = self._progress
            with now.lock:
                told.update(phase=now.phase, done=now.done, total=now.total)
                told.update(written=now.written, verified=now.verified)
        return told

    def take(self, order: Mapping[str, Any]) -> None:
        """Start what is ordered unless it is under way or done."""
        kind = order.get("order")
        if kind == "release":
            self._stop()
            self._order, self._pulled = "", {}  # what the disks hold stays known
            self._set(dict(IDLE))
            return
        if kind not in ("pull", "adapt", "reboot", "give"):
            return
        name = json.dumps({**order, "final": False}, sort_keys=True)
        if name == self._order and (self.busy or self.report()["state"] != "failed"):
            return
        self._stop()
        self._order = name
        done = self._pulled
        if (
            kind == "pull"
            and done
            and (done["recovery"], done["version"], done["disks"])
            == (
                order.get("recovery"),
                order.get("version"),
                order.get("disks"),
            )
        ):
            # a restarted server orders again what is done; adaptation may lie on top already
            self._set({key: value for key, value in done.items() if key != "disks"})
            return
        self._stopped = threading.Event()
        job, begin = {
            "pull": (self._pull, "pulling"),
            "adapt": (self._adapt, "adapting"),
            "reboot": (self._end, "rebooting"),
            "give": (self._give, "giving"),
        }[str(kind)]
        self._progress = PullProgress()
        base = {
            "recovery": str(order.get("recovery", "")),
            "version": str(order.get("version", "")),
        }
        self._set({"state": begin, **base})
        self._thread = threading.Thread(
            target=self._run, args=(job, dict(order), base), daemon=True
        )
        self._thread.start()

    def _stop(self) -> None:
        if self._thread is not None:
            self._stopped.set()
            self._thread.join()
            self._thread = None

    def _set(self, report: Dict[str, Any]) -> None:
        with self._lock:
            self._report = report

    def _run(
        self,
        job: Callable[[Mapping[str, Any], Dict[str, Any]], None],
        order: Mapping[str, Any],
        base: Dict[str, Any],
    ) -> None:
        try:
            job(order, base)
        except NotfallError as error:
            self._set({"state": "failed", **base, "error": error.to_json()})
        except Exception as error:  # whatever it is, the person at the server must see it
            told = NotfallError(
                "rescue-failed",
                f"{type(error).__name__}: {error}",
                "Look at the target's disks and cables, then try again.",
                retry=True,
            )
            self._set({"state": "failed", **base, "error": told.to_json()})

    def _pull(self, order: Mapping[str, Any], base: Dict[str, Any]) -> None:
        disks = read_disks(order)
        for disk in disks:
            check_disk(disk)
        if self._puller is None or disks != self._disks:
            self._puller = Puller(disks, self._connect, self._stopped)
            self._disks = disks
        self._puller.stopped = self._stopped
        self._pulled = {}  # from now on the disks hold neither the old version nor the new one
        self._puller.pull(base["version"], self._progress)
        done = self._progress
        counts = {"written": done.written, "verified": done.verified}
        told = {"state": "pulled", **base, "done": done.done, "total": done.total, **counts}
        self._pulled = {**told, "disks": order["disks"]}
        self._set(told)

    def _give(self, order: Mapping[str, Any], base: Dict[str, Any]) -> None:
        """``version`` is the server's run: a report counts only for the run that it is of."""
        disks = read_disks(order)
        for disk in disks:
            check_disk(disk)
        Giver(disks, base["version"], self._connect, self._stopped).give(self._progress)
        done = self._progress
        self._set({"state": "given", **base, "done": done.done, "total": done.total})

    def _adapt(self, order: Mapping[str, Any], base: Dict[str, Any]) -> None:
        disks = read_disks(order)
        if not self._pulled or read_disks(self._pulled) != disks:
            raise NotfallError(
                "not-pulled",
                "This machine holds no version that could be adapted.",
                "Start the recovery again.",
            )
        for disk in disks:
            check_disk(disk)
        original = read_machine(order.get("original"))

        def tell(change: str) -> None:
            self._set({"state": "adapting", **base, "phase": change})

        changes = [change for disk in disks for change in _fit_table(disk)]
        paths = [disk.path for disk in disks]
        names = [disk.name for disk in disks]
        hardware = own_hardware(original, self._probe(), names, base["recovery"])
        with TemporaryDirectory(prefix="drivers-") as folder:
            supply = DriverSupply(self._connect, Path(folder), self._stopped)
            hardware = with_ids(hardware, disks)
            done = adapt(paths, original, hardware, tell, supply.fetch)
        if order.get("grow") is True:
            sizes = [disk.size for disk in disks]
            done.changes.extend(grow_disks(paths, sizes, original, _read_again, tell))
        for path in paths:
            run(["blockdev", "--flushbufs", path])
        told = [one["text"] for one in done.warnings]
        self._set({"state": "adapted", **base, "changes": changes + done.changes + told})

    def _end(self, order: Mapping[str, Any], base: Dict[str, Any]) -> None:
        # the server hears "rebooting" from the next poll; give that poll its time
        self._stopped.wait(3)
        if not self._stopped.is_set():
            self._reboot()


def _fit_table(disk: TargetDisk) -> List[str]:
    """The backup of a GPT belongs at the end of the disk; only another size needs a move."""
    changes: List[str] = []
    if table_of(disk.path) == "gpt" and not backup_at_end(disk.path, disk.size):
        run(["sgdisk", "-e", disk.path])
        changes.append(f"{disk.name}: backup of the partition table moved to the disk's end")
    _read_again(disk.path)
    return changes


def _read_again(path: str) -> None:
    """Have the kernel take over the partition table."""
    run(["blockdev", "--rereadpt", path], ok=range(256))
    run(["udevadm", "settle", "--timeout=20"], ok=range(256))


def backup_at_end(path: str, size: int) -> bool:
    """Whether the GPT's header names the disk's last sector as the place of its backup."""
    with open(path, "rb") as raw:
        head = raw.read(8192)
    for sector in (512, 4096):
        if head[sector : sector + 8] == b"EFI PART":
            return int.from_bytes(head[sector + 32 : sector + 40], "little") == size // sector - 1
    return False


def reboot_machine(medium: str) -> None:
    """Take the medium out (a CD), then start from the disks."""
    os.sync()
    if medium:
        run(["eject", medium], ok=range(256), timeout=30)
    Path("/proc/sys/kernel/sysrq").write_text("1")
    run(["busybox", "reboot", "-f"])
