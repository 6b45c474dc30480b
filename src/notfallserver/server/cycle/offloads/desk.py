"""What people, schedules and plugged-in disks have done about off-loads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.moves import Move
from notfallserver.server.cycle.offloads.carry import keep_own, offload
from notfallserver.server.cycle.offloads.proving import check_place
from notfallserver.server.cycle.offloads.restores import FETCH, RESTORE, Restores, pick
from notfallserver.server.cycle.runner import JobContext, JobRunner
from notfallserver.server.cycle.state import State
from notfallserver.server.offload.place import (
    Kind,
    Medium,
    Place,
    Standing,
    check_is_due,
    is_due,
    next_time,
    stands,
)
from notfallserver.server.offload.places import Places
from notfallserver.server.offload.removable import find_disk
from notfallserver.server.offload.restic import Snapshot
from notfallserver.server.offload.vault import known_contents, let_go, open_repository, open_vault
from notfallserver.server.records.jobs import Job
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

OFFLOAD, CHECK = "offload", "offload_check"
LOOK_EVERY_S = 10.0
OWN_EVERY = timedelta(days=1)
"""So often the server itself is copied into the pool."""
AGAIN = timedelta(hours=20)
"""A disk that was off-loaded to so lately is not, only because the server was restarted."""


@dataclass(frozen=True)
class PlaceState:
    """``present``: disks that are plugged in. ``next_at``: when the schedule comes; None without
    one."""

    place: Place
    standing: Standing
    media: Mapping[str, Medium]
    present: Sequence[str]
    next_at: datetime | None
    key_kept: bool
    public_key: str
    known_host: str


class Offloads:
    """One per server. Thread-safe."""

    def __init__(self, means: Means, runner: JobRunner, move: Move) -> None:
        self._means = means
        self._runner = runner
        self.places = Places(means.settings.data_dir)
        self._restores = Restores(means, self.places, move, runner)
        self._came: dict[str, datetime] = {}
        self._looked = False
        self._own_at: datetime | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="offloads", daemon=True)

    def register(self) -> None:
        runner = self._runner
        runner.register(OFFLOAD, self._offload, {CHECK})
        runner.register(CHECK, self._check)
        runner.register(RESTORE, self._restores.restore)
        runner.register(FETCH, self._restores.fetch)

    def _offload(self, ctx: JobContext) -> dict[str, Any]:
        return offload(self._means, self.places, ctx)

    def _check(self, ctx: JobContext) -> dict[str, Any]:
        return check_place(self._means, self.places, ctx)

    # -- by itself -------------------------------------------------------------------------------

    def start(self) -> None:
        let_go(self.places)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _loop(self) -> None:
        while True:
            try:
                self.look()
            except Exception:
                log.exception("looking at the places of off-loads failed")
            if self._stopping.wait(LOOK_EVERY_S):
                return

    def look(self) -> None:
        """Begin what is due; what is under way goes first."""
        now = datetime.now().astimezone()
        if self._own_at is None or now - self._own_at > OWN_EVERY:
            self._own_at = now
            keep_own(self._means)
        for place in self.places.all():
            for disk in self._present(place, now):
                medium = self.places.medium(place, disk)
                if is_due(place, medium, now, self._came.get(disk)):
                    self._begin(OFFLOAD, {"place": place.id, "disk": disk})
                elif check_is_due(place, medium, now):
                    self._begin(CHECK, {"place": place.id, "disk": disk})
        self._looked = True

    def _begin(self, kind: str, parameters: Mapping[str, Any]) -> None:
        """Unless one is under way: then this one's turn comes when it is over."""
        jobs = self._means.catalogue.jobs
        if not jobs.unfinished(kind=OFFLOAD) and not jobs.unfinished(kind=CHECK):
            self._runner.submit(kind, None, parameters, "schedule")

    def _present(self, place: Place, now: datetime) -> list[str]:
        """The media of a place that can be used now; it is noted when a disk came."""
        if place.kind is not Kind.DISK:
            return [""]
        there = []
        for uuid in place.disks:
            if find_disk(uuid) is None:
                self._came.pop(uuid, None)
                continue
            there.append(uuid)
            done = self.places.medium(place, uuid).done_at
            lately = bool(done) and now - datetime.fromisoformat(done) < AGAIN
            if uuid not in self._came and (self._looked or not lately):
                self._came[uuid] = now
        return there

    # -- by people -------------------------------------------------------------------------------

    def add(
        self, place: Place, secrets: Mapping[str, str], key: str, who: str
    ) -> tuple[Place, str]:
        """A new place and its key, which is shown this once."""
        made, key = self.places.add(place, secrets, key)
        told = {"place": made.name, "kind": made.kind, "where": made.shown}
        self._means.catalogue.journal.write(None, "offload-place-added", who, details=told)
        return made, key

    def change(self, place: Place, who: str) -> None:
        self.places.change(place)
        self._means.catalogue.journal.write(
            None, "offload-place-changed", who, details={"place": place.name}
        )

    def remove(self, name: str, who: str) -> None:
        """Forget a place and its key; what lies there stays, and nobody can read it without."""
        place = self.places.find(name)
        self._refuse_busy(place)
        self.places.remove(place)
        self._means.catalogue.journal.write(
            None, "offload-place-removed", who, details={"place": place.name}
        )

    def key(self, name: str, who: str) -> str:
        """The key: until somebody said that it is kept, then to root alone."""
        place = self.places.find(name)
        if self.places.key_kept(place) and who != "root":
            raise NotfallError(
                "key-put-away",
                f"The key of '{place.name}' was printed and put away; it is not shown again.",
                "Take it from where it lies. Root sees it on this machine: "
                f"notfall offload place key {place.name}",
                status=409,
            )
        self._means.catalogue.journal.write(
            None, "offload-key-shown", who, details={"place": place.name}
        )
        return self.places.key(place)

    def key_is_kept(self, name: str, who: str) -> None:
        place = self.places.find(name)
        self.places.keep_key(place)
        self._means.catalogue.journal.write(
            None, "offload-key-kept", who, details={"place": place.name}
        )

    def trust_host(self, name: str, who: str) -> str:
        place = self.places.find(name)
        if place.kind is not Kind.SFTP:
            raise NotfallError("bad-place", f"'{place.name}' is not reached by SFTP.", status=422)
        told = self.places.trust_host(place)
        self._means.catalogue.journal.write(
            None, "offload-host-trusted", who, details={"place": place.name, "keys": told}
        )
        return told

    def run(self, name: str, who: str, **wish: Any) -> Job:
        """Off-load now: ``primaries`` by name, ``version``, ``every``, ``deep``, ``disk``."""
        place = self.places.find(name)
        named = [self._means.catalogue.primaries.find(one) for one in wish.pop("primaries", [])]
        if wish.get("version"):
            if len(named) != 1:
                raise NotfallError(
                    "bad-request", "A version is one of one primary.", "Name it.", status=422
                )
            self._means.pool.primary(named[0].uuid).version(wish["version"])
        parameters = {"place": place.id, "primaries": [one.uuid for one in named]}
        parameters |= {key: one for key, one in wish.items() if one}
        return self._runner.submit(OFFLOAD, None, parameters, who)

    def check(self, name: str, who: str, whole: bool = False, disk: str = "") -> Job:
        place = self.places.find(name)
        parameters = {"place": place.id, "whole": whole, "disk": disk}
        return self._runner.submit(CHECK, None, parameters, who)

    def contents(self, name: str, disk: str = "", fresh: bool = False) -> list[Snapshot]:
        """What a place holds; ``fresh``: it is asked now, else as it was seen last."""
        place = self.places.find(name)
        if fresh:
            with open_vault(self.places, place, disk, _patience(60)) as vault:
                return open_repository(vault, make=False)
        if place.kind is not Kind.DISK or disk:
            return known_contents(self.places, place, disk)
        found = [one for uuid in place.disks for one in known_contents(self.places, place, uuid)]
        return sorted(found, key=lambda one: one.stamp or one.taken_at, reverse=True)

    def restore(self, name: str, primary: str, who: str, stamp: str = "", disk: str = "") -> Job:
        """Bring a version into the pool; the newest where none is named. A primary that nobody
        knows here becomes one."""
        place = self.places.find(name)
        uuid = self._known(place, primary, disk)
        parameters = {"place": place.id, "stamp": stamp, "disk": disk}
        return self._runner.submit(RESTORE, uuid, parameters, who)

    def fetch_disk(
        self, name: str, primary: str, number: int, to: Path, who: str, stamp: str = ""
    ) -> Job:
        """One disk of a version as a raw file on this machine."""
        place = self.places.find(name)
        if to.exists() or not to.parent.is_dir():
            raise NotfallError(
                "file-exists" if to.exists() else "no-such-directory",
                f"{to} can't be written: it exists, or its directory does not.",
                "Name a new file in a directory that is there.",
                status=409,
            )
        uuid = self._known(place, primary, "")
        parameters = {"place": place.id, "stamp": stamp, "disk_number": number, "to": str(to)}
        return self._runner.submit(FETCH, uuid, parameters, who)

    def _known(self, place: Place, primary: str, disk: str) -> str:
        """The primary's UUID; one that only the place knows is taken over."""
        try:
            return self._means.catalogue.primaries.find(primary).uuid
        except NotfallError as error:
            if error.code != "no-such-primary":
                raise
        snapshot = pick(self.contents(place.name, disk, fresh=True), primary)
        settings = self._means.present()
        self._means.catalogue.primaries.adopt_primary(
            snapshot.primary,
            snapshot.name,
            None,
            "",
            State.NEW,
            settings.schedule_minutes,
            settings.capture_minutes,
        )
        self._means.pool.add_primary(snapshot.primary, snapshot.name)
        return snapshot.primary

    def _refuse_busy(self, place: Place) -> None:
        for kind in (OFFLOAD, CHECK, RESTORE, FETCH):
            for job in self._means.catalogue.jobs.unfinished(kind=kind):
                if job.parameters.get("place") == place.id:
                    raise NotfallError(
                        "job-conflict",
                        f"Something is under way with '{place.name}' (job {job.id}).",
                        f"Wait for it, or cancel it: notfall jobs --cancel {job.id}",
                        retry=True,
                        status=409,
                    )

    def states(self) -> list[PlaceState]:
        return [self.state(one) for one in self.places.all()]

    def state(self, place: Place) -> PlaceState:
        now = datetime.now().astimezone()
        media = self.places.media(place)
        present = [uuid for uuid in place.disks if find_disk(uuid) is not None]
        return PlaceState(
            place,
            stands(place, media, self.places.made_at(place), now),
            media,
            present,
            next_time(place.times, now),
            self.places.key_kept(place),
            self.places.public_key(place),
            self.places.known_host(place),
        )


def _patience(seconds: float) -> Any:
    """A check that gives up after so long: somebody waits for the answer."""
    until = datetime.now(timezone.utc) + timedelta(seconds=seconds)

    def check() -> None:
        if datetime.now(timezone.utc) > until:
            raise NotfallError(
                "offload-slow",
                "The place does not answer in time, or something is under way there.",
                "Try again in a while.",
                retry=True,
                status=503,
            )

    return check
