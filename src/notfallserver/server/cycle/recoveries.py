"""What people ask of a recovery: the plan to look at, and its beginning once it is confirmed.

How far the way back is then is a matter of the jobs in ``way_back.py``.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from notfallserver.server.cycle import actions
from notfallserver.server.cycle.agentless import require_address
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.moves import Move, because
from notfallserver.server.cycle.recovery.mirrors import find_mirrors
from notfallserver.server.cycle.recovery.plan import (
    DiskPlan,
    Known,
    needs_measuring,
    plan_recovery,
)
from notfallserver.server.cycle.recovery.reshape import Least, Reshaper
from notfallserver.server.cycle.runner import JobRunner
from notfallserver.server.cycle.state import Event
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.pool.version import Version
from notfallserver.server.records.jobs import Job
from notfallserver.server.records.primaries import Primary
from notfallserver.server.rescue_medium import find_medium
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine, Partition

MEASURED_S = 900.0
"""So many seconds a measurement holds; whether all fits is seen again in each round."""
JOB_ENDS_S = 10.0
"""A capture that is cancelled is over after so many seconds."""


@dataclass(frozen=True)
class Recoveries:
    """One per server."""

    means: Means
    runner: JobRunner
    move: Move
    require: Callable[[Primary, Event], None]
    _measuring: threading.Lock = field(default_factory=threading.Lock)
    _measured: dict[str, tuple[float, Least]] = field(default_factory=dict)

    def plan(
        self, row: Primary, code: str, disks: Mapping[str, str] | None, grow: bool
    ) -> actions.RecoveryPlan:
        """What a recovery would do; changes nothing."""
        require_address(row)
        return self._plan(row, code, disks or {}, grow)[1]

    def target_disks(self, row: Primary, code: str) -> list[str]:
        """Names of the disks that would be written to, in the order of the image's."""
        return [one.new_name for one in self.plan(row, code, None, False).moves]

    def _plan(
        self, row: Primary, code: str, disks: Mapping[str, str], grow: bool
    ) -> tuple[DiskPlan, actions.RecoveryPlan]:
        target = self.means.catalogue.targets.by_code(code)
        store = self.means.pool.primary(row.uuid)
        original = store.need_current().manifest.machine
        known = self._known(store, original, target.machine, disks)
        plan = plan_recovery(original, target.machine, disks, grow, known)
        shown = actions.RecoveryPlan(
            primary=row.uuid,
            target=target.id,
            moves=tuple(
                actions.DiskMove(
                    old_name=" + ".join(old.name for old in one.originals),
                    old_size=sum(old.size for old in one.originals),
                    new_name=one.disk.name,
                    new_size=one.disk.size,
                    new_serial=one.disk.serial,
                    new_model=one.disk.model,
                    overwrites=tuple(_words(part) for part in one.disk.partitions),
                    changes=one.changes,
                )
                for one in plan.moves
            ),
            untouched=tuple(one.name for one in plan.untouched),
            warnings=plan.warnings,
            grow=plan.grow,
            can_grow=any(one.can_grow for one in plan.moves),
        )
        return plan, shown

    def _known(
        self, store: PrimaryStore, original: Machine, target: Machine, disks: Mapping[str, str]
    ) -> Known:
        version = store.need_current()
        mirrors = find_mirrors(version)
        least = {}
        if needs_measuring(original, target, disks, mirrors):
            least = self._least(store, version)
        return Known(boots_by(store), least, mirrors)

    def _least(self, store: PrimaryStore, version: Version) -> Least:
        """Measured once for a plan and its confirmation: it takes a while, and digests must fit."""
        with self._measuring:
            known = self._measured.get(store.uuid)
            if known is None or time.monotonic() - known[0] > MEASURED_S:
                known = time.monotonic(), reshaper_of(self.means).measure(store, version)
                self._measured[store.uuid] = known
            return known[1]

    def begin(
        self,
        row: Primary,
        code: str,
        disks: Mapping[str, str] | None,
        confirmed: str,
        who: str,
        grow: bool,
    ) -> Job:
        """``confirmed`` is the digest of the plan that the person saw."""
        self.require(row, Event.RECOVER)
        require_address(row)
        plan, shown = self._plan(row, code, disks or {}, grow)
        shown.confirm(confirmed)
        self._end_captures(row.uuid)
        # Unlike any before: a late report of an earlier recovery must not count for this one.
        recovery = f"{shown.digest}-{secrets.token_hex(4)}"
        self.means.catalogue.targets.pair(shown.target, recovery)
        self.means.catalogue.primaries.note(
            row.uuid,
            recovery={
                "id": recovery,
                "target": shown.target,
                "disks": plan.orders(),
                "grow": plan.grow,
                "shape": plan.shape(
                    self.means.pool.primary(row.uuid).need_current().manifest.machine
                ),
            },
        )
        self.move(row.uuid, Event.RECOVER, who, details={"target": shown.target})
        try:
            return self.runner.submit("recover", row.uuid, {}, who)
        except NotfallError as error:
            self.means.catalogue.targets.release(shown.target)
            self.move(row.uuid, Event.RECOVERY_FAILED, "server", *because(error))
            raise

    def _end_captures(self, primary: str) -> None:
        """One on schedule must not hold up a recovery, which makes captures of its own."""
        for job in self.means.catalogue.jobs.unfinished(primary, "capture"):
            self.runner.cancel(job.id, "server")
            self.runner.wait(job.id, JOB_ENDS_S)


def reshaper_of(means: Means) -> Reshaper:
    return Reshaper(
        means.settings, means.hypervisor, means.pool, lambda: find_medium(means.rescue_dir)
    )


def boots_by(store: PrimaryStore) -> tuple[str, ...]:
    """The firmware that the copy can start by, as far as the adaptation has seen it."""
    for image in (store.newest_prepared(), store.standin()):
        if image is not None and image.record.get("boots_by"):
            return tuple(str(one) for one in image.record["boots_by"])
    return ()


def _words(partition: Partition) -> str:
    what = partition.filesystem or "unknown content"
    return f"partition {partition.number}: {what} {partition.label}".strip()
