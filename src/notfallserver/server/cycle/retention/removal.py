"""The job that removes versions: those that rules let go, those that people had deleted, and, when
the pool is nearly full, those that may go before their time.

One version at a time. Just before each one it is looked again at whether it may go, while nobody
can move its primary in the life cycle; then its directory loses its name, which is at once, and is
deleted. What a crash leaves is deleted at the next start.

**When the pool is nearly full** the oldest spare version goes of that primary whose spare versions
alone occupy most: who fills the pool pays first. What each version frees is known before. What
``plan.ALWAYS`` names stays: somebody who fills the pool on purpose, from a primary that he has
taken over, does not get rid of the last days of any. Where nothing may go any more, what a broken
run has brought is dropped, if nobody works with it: it would be continued, but keeps the pool full.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from enum import StrEnum
from pathlib import Path
from typing import Any

from notfallserver.server.cycle.care import Care
from notfallserver.server.cycle.hands import Hands
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.retention.deletions import Deletions
from notfallserver.server.cycle.retention.in_use import KIND
from notfallserver.server.cycle.retention.survey import Survey, View
from notfallserver.server.cycle.runner import JobContext, JobRunner
from notfallserver.server.host.files import delete_tree, doom_tree
from notfallserver.server.host.run import run
from notfallserver.server.pool.accounting import Accounts, files_of
from notfallserver.server.pool.layout import PrimaryPaths
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.records.primaries import Primary
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

MARGIN = 0.01
"""So much more of the pool is made free than must be."""
STUCK = "stuck"
"""In the job's result: the pool is nearly full, and nothing may go."""


class Because(StrEnum):
    """Why a version went; the journal's event."""

    RULES = "version-removed"
    ROOM = "version-given-up"
    HAND = "version-deleted"


@dataclass
class Counts:
    """What a job did so far."""

    removed: int = 0
    deleted: int = 0
    given_up: int = 0
    bytes_freed: int = 0


@dataclass(frozen=True)
class Removals:
    """The job function."""

    means: Means
    runner: JobRunner
    hands: Hands
    survey: Survey
    deletions: Deletions
    accounts: Accounts

    def register(self) -> None:
        self.runner.register(KIND, self.retain)

    def retain(self, ctx: JobContext) -> dict[str, Any]:
        counts = Counts(**ctx.notes.get("counts", {}))
        self._tell_left(ctx, counts)
        for row in self._rows(ctx):
            try:
                self._store(row.uuid).protect()
                self._by_hand(ctx, counts, row)
                self._by_rules(ctx, counts, row)
                Care(self.means).show(self._store(row.uuid))
            except NotfallError as error:  # one that can't be read must not hold up the others
                log.warning("%s: %s", row.name, error)
        stuck = self._make_room(ctx, counts)
        self._give_to_host(counts)
        return {**asdict(counts), **({STUCK: True} if stuck else {})}

    def _give_to_host(self, counts: Counts) -> None:
        """What a pool in an image file has free, its file need not hold."""
        if self.means.place.image is not None and counts.bytes_freed:
            # Where it can't be done, the file stays as large as it is.
            run(["fstrim", self.means.pool.root], ok=range(256), timeout=6 * 3600)

    def _rows(self, ctx: JobContext) -> list[Primary]:
        only = ctx.parameters.get("primary")
        rows = self.means.catalogue.primaries.all()
        return [one for one in rows if one.newest_version and only in (None, one.uuid)]

    def _by_rules(self, ctx: JobContext, counts: Counts, row: Primary) -> None:
        for stamp in self.survey.of(row).plan.going:
            going = _Going(row.uuid, stamp, Because.RULES, "server")
            counts.removed += self._remove(ctx, counts, going, lambda view: view.plan.going)

    def _by_hand(self, ctx: JobContext, counts: Counts, row: Primary) -> None:
        """Orders that are due; one that nobody confirmed lapses, one in use waits."""
        now = datetime.now(timezone.utc)
        view = self.survey.of(row)
        self.deletions.forget(row, view.stamps)
        for stamp, one in sorted(view.deletions.items()):
            if one.due_at > now or stamp not in view.stamps:
                continue
            if one.awaits(self.deletions.administrators()):
                self.deletions.lapse(row, stamp)
                continue
            going = _Going(row.uuid, stamp, Because.HAND, one.who, one.why, one.confirmed_by)
            counts.deleted += self._remove(ctx, counts, going, self._deletable)
        self.deletions.forget(row, self.survey.of(row).stamps)

    def _deletable(self, view: View) -> tuple[str, ...]:
        now = datetime.now(timezone.utc)
        return tuple(
            stamp
            for stamp, one in view.deletions.items()  # it may just have been taken back
            if one.due_at <= now and not view.plan.may_be_deleted(stamp) and view.normal
        )

    # -- room ------------------------------------------------------------------------------------

    def _make_room(self, ctx: JobContext, counts: Counts) -> bool:
        """Whether the pool is nearly full, and nothing may go."""
        percent = self.means.present().make_room_percent
        free, size = self.means.pool.free()
        if not percent or free >= size * percent / 100:
            return False
        run(["sync", "-f", self.means.pool.root], timeout=600)
        free, size = self.means.pool.true_free()
        if free >= size * percent / 100:
            return False
        goal = int(size * (percent / 100 + MARGIN))
        while free < goal:
            going = self._next_spare(ctx)
            if going is None:
                free += self._give_up_run(ctx) if free < size * percent / 100 else 0
                return free < size * percent / 100
            before = counts.bytes_freed
            try:
                gone = self._remove(ctx, counts, going, lambda view: view.plan.spare)
            except NotfallError as error:  # its primary was removed, or it was pinned
                log.warning("version %s stays: %s", going.stamp, error)
                gone = False
            if not gone:
                return False  # it is looked anew soon
            counts.given_up += 1
            # A filesystem may take a while until what was removed is free.
            free = max(free + counts.bytes_freed - before, self.means.pool.free()[0])
        return False

    def _next_spare(self, ctx: JobContext) -> _Going | None:
        ctx.progress("looking for what can go")
        spare: dict[str, tuple[str, ...]] = {}
        for row in self.means.catalogue.primaries.all():
            if row.newest_version:
                try:
                    spare[row.uuid] = self.survey.of(row).plan.spare
                except NotfallError as error:
                    log.warning("%s: %s", row.name, error)
        sets = {
            uuid: [path for one in stamps for path in files_of(self._store(uuid), one)]
            for uuid, stamps in spare.items()
            if stamps
        }
        frees = self.accounts.alone(sets, ctx.check)
        uuid = max(frees, key=frees.__getitem__, default="")
        if not uuid or not frees[uuid]:
            return None
        return _Going(uuid, spare[uuid][0], Because.ROOM, "server")

    def _give_up_run(self, ctx: JobContext) -> int:
        """Where no version may go, what a broken run has brought does, of whom it is most: it would
        keep the pool full for all others. Returns the bytes that are free by that."""
        waiting: dict[str, list[Path]] = {}
        for row in self.means.catalogue.primaries.all():
            incoming = PrimaryPaths.of(self.means.pool.root, row.uuid).incoming
            if incoming.is_dir() and not self._is_busy(row.uuid):
                waiting[row.uuid] = [one for one in incoming.iterdir() if one.is_file()]
        frees = self.accounts.alone(waiting, ctx.check)
        uuid = max(frees, key=frees.__getitem__, default="")
        if not uuid or not frees[uuid]:
            return 0
        with self.hands.on(uuid):  # nobody begins a capture meanwhile
            if self._is_busy(uuid) or not self.means.runs.give_up(uuid):
                return 0
        told = {"freed": frees[uuid]}
        self.means.catalogue.journal.write(uuid, "run-given-up", "server", details=told)
        return frees[uuid]

    def _is_busy(self, primary: str) -> bool:
        """Whether there is a job that may work with what is unfinished."""
        return any(one.kind != KIND for one in self.means.catalogue.jobs.unfinished(primary))

    # -- one version -----------------------------------------------------------------------------

    def _remove(
        self,
        ctx: JobContext,
        counts: Counts,
        going: _Going,
        allowed: Callable[[View], tuple[str, ...]],
    ) -> bool:
        """Remove a version if it still is among the ``allowed``; False where it stays."""
        ctx.check()
        ctx.progress("removing versions")
        store = self._store(going.primary)
        files = files_of(store, going.stamp)
        freed = self.accounts.alone({going.stamp: files}, ctx.check)[going.stamp]
        doomed = []
        with self.hands.on(going.primary):  # nobody begins an activation meanwhile
            row = self.means.catalogue.primaries.find(going.primary)
            if going.stamp not in allowed(self.survey.of(row)):
                return False
            ctx.note(removing={**going.to_json(), "freed": freed})
            try:
                doomed.append(store.doom_version(going.stamp))
            except NotfallError:  # pinned just now
                ctx.note(removing=None)
                raise
            if (image := doom_tree(store.paths.prepared / going.stamp)) is not None:
                doomed.append(image)
        counts.bytes_freed += freed
        self._tell(going, freed)
        ctx.note(removing=None, counts=asdict(counts))
        for one in doomed:
            delete_tree(one)
        return True

    def _tell_left(self, ctx: JobContext, counts: Counts) -> None:
        """The server was killed after a version had gone and before that was told."""
        left = ctx.notes.get("removing")
        if left is None:
            return
        freed = int(left.pop("freed"))
        going = _Going(**{**left, "because": Because(left["because"])})
        paths = PrimaryPaths.of(self.means.pool.root, going.primary)
        if paths.root.is_dir() and not (paths.versions / going.stamp).exists():
            counts.bytes_freed += freed
            self._tell(going, freed)
        ctx.note(removing=None, counts=asdict(counts))

    def _tell(self, going: _Going, freed: int) -> None:
        details: dict[str, Any] = {"version": going.stamp, "freed": freed}
        if going.confirmed_by:
            details["confirmed_by"] = going.confirmed_by
        self.means.catalogue.journal.write(
            going.primary, going.because, going.who, going.why, details
        )

    def _store(self, primary: str) -> PrimaryStore:
        return self.means.pool.primary(primary)


def is_stuck(means: Means) -> bool:
    """Whether the pool is nearly full, and nothing could be done about it lately."""
    percent, (free, size) = means.present().make_room_percent, means.pool.free()
    if free >= size * percent / 100:
        return False
    last = means.catalogue.jobs.newest(kind=KIND, limit=1)
    return bool(last and last[0].result.get(STUCK))


@dataclass(frozen=True)
class _Going:
    """A version that shall go, and what the journal says of it."""

    primary: str
    stamp: str
    because: Because
    who: str
    why: str = ""
    confirmed_by: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
