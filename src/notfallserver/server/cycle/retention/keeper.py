"""What people see of retention and change in it: rules, previews, pins, deletions by hand."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

from notfallserver.server.cycle.browse.shelf import Shelf
from notfallserver.server.cycle.files import FileAccess
from notfallserver.server.cycle.hands import Hands
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.retention.deletions import (
    Deletion,
    Deletions,
    read_deletions,
)
from notfallserver.server.cycle.retention.in_use import KIND, Users
from notfallserver.server.cycle.retention.plan import Keep
from notfallserver.server.cycle.retention.removal import STUCK, Removals
from notfallserver.server.cycle.retention.rules import RETENTION, checked, own_rules
from notfallserver.server.cycle.retention.survey import Survey, View
from notfallserver.server.cycle.runner import JobRunner
from notfallserver.server.pool.accounting import Accounts, files_of
from notfallserver.server.pool.pins import Pin
from notfallserver.server.records.jobs import Job
from notfallserver.server.records.primaries import Primary
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

HAND = "hand"
"""The key of a pin that a person set."""
LOOK_EVERY = timedelta(seconds=30)
ALL_ANEW = timedelta(hours=1)
"""So often rules are applied also where no new version came."""
FAILED_AGAIN = timedelta(minutes=10)
STUCK_AGAIN = timedelta(minutes=10)
"""Where nothing may go, it is looked again after so long."""


@dataclass(frozen=True)
class Preview:
    """``frees``: bytes of all that goes; ``alone``: by stamp what each version alone occupies,
    empty where that was not asked for."""

    view: View
    frees: int
    alone: Mapping[str, int]


class Retention:
    """One per server; thread-safe."""

    def __init__(
        self, means: Means, runner: JobRunner, hands: Hands, shelf: Shelf, files: FileAccess
    ) -> None:
        self._means = means
        self._runner = runner
        self._hands = hands
        self._deletions = Deletions(means.catalogue)
        self._accounts = Accounts(means.pool.root, sparing=not means.place.reflink)
        self._survey = Survey(means, Users(means, shelf, files))
        self._looked = datetime.min.replace(tzinfo=timezone.utc)
        self._applied: dict[str, tuple[str, datetime]] = {}

    def register(self) -> None:
        Removals(
            self._means,
            self._runner,
            self._hands,
            self._survey,
            self._deletions,
            self._accounts,
        ).register()

    # -- looking ---------------------------------------------------------------------------------

    def view(self, row: Primary) -> View:
        """How its versions stand; quick."""
        return self._survey.of(row)

    def preview(
        self, row: Primary, wish: Mapping[str, int] | None = None, each: bool = False
    ) -> Preview:
        """What rules would remove, and what that frees; other rules than its own by ``wish``.

        ``each``: also what each version alone occupies. Looks at all files of the pool: seconds,
        with many versions of much scattered disks a minute or more.
        """
        view = self._survey.of(row)
        if wish:
            view = self._survey.of(row, replace(view.rules, **checked(wish)))
        store = self._means.pool.primary(row.uuid)
        files = {stamp: files_of(store, stamp) for stamp in view.stamps}
        sets = {"": [path for stamp in view.plan.going for path in files[stamp]]}
        frees = self._accounts.alone({**sets, **(files if each else {})})
        return Preview(view, frees.pop(""), frees)

    def pinned(self, row: Primary) -> frozenset[str]:
        """Versions that are held; none where that can't be read, which removals find out."""
        if not row.newest_version:
            return frozenset()
        try:
            return frozenset(self._means.pool.primary(row.uuid).pins.all())
        except NotfallError as error:
            log.warning("%s: %s", row.name, error)
            return frozenset()

    def administrators(self) -> int:
        return self._deletions.administrators()

    # -- rules -----------------------------------------------------------------------------------

    def set_rules(
        self, row: Primary, wish: Mapping[str, int], reset: Sequence[str], clear: bool, who: str
    ) -> None:
        """Rules of its own; those of ``reset``, or all (``clear``), follow the settings again."""
        before = own_rules(row.notes)
        kept = {} if clear else {key: one for key, one in before.items() if key not in reset}
        after = {**kept, **checked(wish)}
        if after != before:
            self._means.catalogue.primaries.note(row.uuid, **{RETENTION: after or None})
            journal = self._means.catalogue.journal
            journal.write(row.uuid, "retention-changed", who, details={"rules": after})
        self._applied.pop(row.uuid, None)

    def run(self, who: str, row: Primary | None = None) -> Job:
        """Apply the rules now, to one primary or all; and see that there is room."""
        parameters = {"primary": row.uuid} if row else {}
        return self._runner.submit(KIND, None, parameters, who, join=True)

    # -- pins ------------------------------------------------------------------------------------

    def pin(self, row: Primary, stamp: str, why: str, who: str) -> None:
        """No rule and no hand removes it from now on."""
        if not why.strip():
            raise NotfallError(
                "no-reason",
                "A version that stays for ever needs a reason.",
                "Say why, so that others know when it may go.",
                status=422,
            )
        store = self._means.pool.primary(row.uuid)
        with self._hands.on(row.uuid):  # it might be removed just now
            store.version(stamp)
            at = datetime.now(timezone.utc).isoformat(timespec="seconds")
            store.pins.pin(stamp, HAND, Pin(why.strip()[:1000], who, at))
        details = {"version": stamp}
        self._means.catalogue.journal.write(row.uuid, "version-pinned", who, why.strip(), details)

    def unpin(self, row: Primary, stamp: str, key: str, who: str) -> None:
        """Let go what a person, or something else by its ``key``, holds."""
        store = self._means.pool.primary(row.uuid)
        if not store.pins.unpin(stamp, key):
            raise NotfallError(
                "not-pinned",
                f"The version {stamp[:40]} is not held by '{key[:40]}'.",
                "See 'notfall retention preview'.",
                status=404,
            )
        details = {"version": stamp, "key": key}
        self._means.catalogue.journal.write(row.uuid, "version-unpinned", who, details=details)

    # -- deletion by hand ------------------------------------------------------------------------

    def delete(self, row: Primary, stamp: str, who: str, why: str = "") -> Deletion:
        """Have a version deleted, after the time that is set; ordered again, nothing changes."""
        self._means.pool.primary(row.uuid).version(stamp)
        view = self._survey.of(row)
        forbidden = [one for one in view.plan.may_be_deleted(stamp) if one is not Keep.IN_USE]
        if forbidden or len(view.stamps) < 2:
            raise NotfallError(
                "version-must-stay",
                f"The version {stamp} must stay: {', '.join(forbidden) or 'it is the only one'}.",
                "The newest, the newest sound and the newest proven version can't be deleted, nor "
                "one that is pinned. Make a newer one first, or unpin it.",
                status=409,
            )
        hours = self._means.present().deletion_hours
        now = datetime.now(timezone.utc)
        self._deletions.order(row, [stamp], hours, who, why, now)
        fresh = self._means.catalogue.primaries.find(row.uuid)
        return self._survey.of(fresh).deletions[stamp]

    def confirm(self, row: Primary, stamp: str, who: str) -> Deletion:
        return self._deletions.confirm(row, stamp, who)

    def take_back(self, row: Primary, stamp: str, who: str) -> None:
        self._deletions.take_back(row, stamp, who)

    # -- by itself -------------------------------------------------------------------------------

    def look(self, rows: Sequence[Primary]) -> None:
        """Begin the job where there is something for it to do; called every few seconds."""
        now = datetime.now(timezone.utc)
        if now - self._looked < LOOK_EVERY and now >= self._looked:
            return
        self._looked = now
        for last in self._means.catalogue.jobs.newest(kind=KIND, limit=1):
            ended = last.finished_at
            if not last.finished or (last.state != "done" and ended and now - ended < FAILED_AGAIN):
                return
        busy = [row for row in rows if row.newest_version and self._has_work(row, now)]
        if busy or self._is_full():
            self._runner.submit(KIND, None, {}, "schedule", join=True)

    def _has_work(self, row: Primary, now: datetime) -> bool:
        newest, at = self._applied.get(row.uuid, ("", self._looked))
        view = None
        try:
            if newest != row.newest_version or abs(now - at) >= ALL_ANEW:
                self._means.pool.primary(row.uuid).protect()
                view = self._survey.of(row)
                self._applied[row.uuid] = (row.newest_version, now)
            due = [one for one in read_deletions(row.notes).values() if one.due_at <= now]
            if due and view is None:
                view = self._survey.of(row)
            return view is not None and (
                bool(view.plan.going) or any(self._can_end(one, view) for one in due)
            )
        except NotfallError as error:
            log.warning("%s: its versions can't be looked at: %s", row.name, error)
            return False

    def _can_end(self, one: Deletion, view: View) -> bool:
        """Whether an order that is due can be carried out or given up now."""
        if one.stamp not in view.stamps or one.awaits(self._deletions.administrators()):
            return True
        return view.normal and not view.plan.may_be_deleted(one.stamp)

    def _is_full(self) -> bool:
        percent = self._means.present().make_room_percent
        free, size = self._means.pool.free()
        if not percent or free >= size * percent / 100:
            return False
        free, size = self._means.pool.true_free()
        if free >= size * percent / 100:
            return False
        for last in self._means.catalogue.jobs.newest(kind=KIND, limit=1):
            ended = last.finished_at
            if (
                last.result.get(STUCK)
                and ended
                and datetime.now(timezone.utc) - ended < STUCK_AGAIN
            ):
                return False
        return True
