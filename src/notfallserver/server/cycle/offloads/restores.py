"""The jobs that bring versions back: into the pool as versions, or one disk as a file.

Single files come out of a version that was brought back, by the file access that each version has.
Restores run one after another, in the order in which they were ordered: so the first stand-in can
be started while the others are still on their way.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.moves import Move
from notfallserver.server.cycle.runner import JobContext, JobRunner
from notfallserver.server.cycle.state import Event, State
from notfallserver.server.offload.bring_back import Fetch, Tell, bring_disk, bring_version
from notfallserver.server.offload.places import Places
from notfallserver.server.offload.restic import Snapshot
from notfallserver.server.offload.vault import Vault, choose_disk, open_repository, open_vault
from notfallserver.server.pool.layout import check_stamp
from notfallserver.server.pool.pins import Pin
from notfallserver.wire.errors import NotfallError

RESTORE = "offload_restore"
FETCH = "offload_fetch"
PIN = "restored"
REBUILD = "rebuild"
"""Who ordered what a rebuilt server brings back by itself."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 300.0

log = logging.getLogger(__name__)


def pick(contents: Sequence[Snapshot], primary: str, stamp: str = "") -> Snapshot:
    """The snapshot of this version, or the newest of this primary (by UUID or name)."""
    wanted = primary.lower()
    own = [one for one in contents if one.primary and wanted in (one.primary, one.name.lower())]
    if stamp:
        own = [one for one in own if one.stamp == check_stamp(stamp)]
    if not own:
        raise NotfallError(
            "not-off-loaded",
            f"The place holds no {f'version {stamp}' if stamp else 'version'} of '{primary[:60]}'.",
            "See what it holds: notfall offload list PLACE",
            status=404,
        )
    return own[0]


@dataclass(frozen=True)
class Restores:
    means: Means
    places: Places
    move: Move
    runner: JobRunner

    def restore(self, ctx: JobContext) -> dict[str, Any]:
        """``place``, and perhaps ``disk`` and ``stamp``; of the job's primary.

        What a rebuild ordered waits for its place as long as that is away: nobody else orders it.
        """
        self._in_turn(ctx)
        pause = FIRST_PAUSE_S
        while True:
            try:
                return self._restore(ctx)
            except NotfallError as error:
                if not error.retry or ctx.job.who != REBUILD:
                    raise
                log.warning("%s [%s]", error, error.code)
            ctx.progress("waiting for the place")
            ctx.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    def _restore(self, ctx: JobContext) -> dict[str, Any]:
        with self._opened(ctx) as (vault, contents):
            snapshot = pick(contents, ctx.primary, ctx.parameters.get("stamp", ""))
            row = self.means.catalogue.primaries.find(ctx.primary)
            store = self.means.pool.add_primary(row.uuid, row.name)
            fetch, tell = fetching(vault, snapshot, ctx)
            version = bring_version(store, row.uuid, snapshot.stamp, fetch, tell)
        self._arrived(ctx, version.stamp, vault.place.name)
        return {"version": version.stamp, "bytes": version.bytes_used}

    def _arrived(self, ctx: JobContext, stamp: str, place: str) -> None:
        """What the catalogue must know; may be repeated."""
        primaries = self.means.catalogue.primaries
        store = self.means.pool.primary(ctx.primary)
        row = primaries.find(ctx.primary)
        newest = store.need_newest()
        if newest.stamp == stamp:
            primaries.new_version(row.uuid, stamp, None if row.machine else newest.manifest.machine)
        else:  # or the rules would take it away at once
            at = datetime.now(timezone.utc).isoformat()
            store.pins.pin(stamp, PIN, Pin(f"brought back from {place}", ctx.job.who, at))
        if row.state == State.NEW:
            self.move(row.uuid, Event.FIRST_VERSION, ctx.job.who, f"brought back from {place}")
        if newest.stamp == stamp:  # made ready to start, in whatever state it is
            self.runner.submit("prepare", row.uuid, {}, "server", join=True)
        self.means.catalogue.journal.write(
            row.uuid, "version-restored", ctx.job.who, details={"version": stamp, "place": place}
        )

    def fetch(self, ctx: JobContext) -> dict[str, Any]:
        """One disk as a raw file: ``place``, ``stamp``, ``disk_number``, ``to``."""
        with self._opened(ctx) as (vault, contents):
            snapshot = pick(contents, ctx.primary, ctx.parameters.get("stamp", ""))
            target = Path(ctx.parameters["to"])
            work = target.with_name(f".{target.name}.restoring")
            fetch, tell = fetching(vault, snapshot, ctx)
            number = int(ctx.parameters["disk_number"])
            bring_disk(work, snapshot.primary, snapshot.stamp, number, target, fetch, tell)
        self.means.catalogue.journal.write(
            ctx.job.primary,
            "disk-restored",
            ctx.job.who,
            details={"version": snapshot.stamp, "place": vault.place.name, "to": str(target)},
        )
        return {"version": snapshot.stamp, "file": str(target)}

    def _in_turn(self, ctx: JobContext) -> None:
        while True:
            first = self.means.catalogue.jobs.unfinished(kind=RESTORE)
            if not first or first[0].id == ctx.job.id:
                return
            ctx.progress("waiting for other versions")
            ctx.sleep(1)

    @contextmanager
    def _opened(self, ctx: JobContext) -> Iterator[tuple[Vault, list[Snapshot]]]:
        """The job's place, and what lies there."""
        place = self.places.find(ctx.parameters["place"])
        disk = choose_disk(place, ctx.parameters.get("disk", ""))
        with open_vault(
            self.places, place, disk, ctx.check, lambda: ctx.progress("waiting for the place")
        ) as vault:
            ctx.progress("opening the place")
            yield vault, open_repository(vault, make=False)


def fetching(vault: Vault, snapshot: Snapshot, ctx: JobContext) -> tuple[Fetch, Tell]:
    """How the engine brings paths of a snapshot, with progress as the files grow."""

    def tell(phase: str, done: int, total: int) -> None:
        ctx.check()
        ctx.progress(phase, done, total)

    def fetch(paths: Sequence[str], target: Path, total: int) -> None:
        if not total:
            vault.restic.restore(snapshot.id, paths, target)
            return
        with _Watched(target, lambda done: tell("fetching", min(done, total), total)):
            vault.restic.restore(snapshot.id, paths, target)

    return fetch, tell


class _Watched:
    """Tells every other second how much lies below a folder; the engine itself tells nothing."""

    def __init__(self, folder: Path, tell: Callable[[int], None]) -> None:
        self._folder, self._tell = folder, tell
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        pause = 2.0
        while not self._over.wait(pause):
            began = time.monotonic()
            done = 0
            for one in self._folder.glob("disk*/*/*"):
                try:
                    done += one.stat().st_blocks * 512
                except FileNotFoundError:
                    continue
            try:
                self._tell(done)
            except BaseException:
                return
            pause = max(2.0, 10 * (time.monotonic() - began))  # many files: seldom
