"""The conductor: the only module that moves a primary between the states of its life cycle.

People's wishes come in through :class:`~notfallserver.server.cycle.actions.Conductor`, agents and
targets through the doors at the end. What takes long becomes a job (``work.py``).
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from notfallserver.server.cycle import actions
from notfallserver.server.cycle.duties import Duties
from notfallserver.server.cycle.emergency.captures import Captures
from notfallserver.server.cycle.files import FileAccess
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.outage.guard import Verdict, overrule
from notfallserver.server.cycle.outage.watch import examine_primary
from notfallserver.server.cycle.recovery.plan import DiskPlan, plan_recovery
from notfallserver.server.cycle.runner import JobContext, JobRunner
from notfallserver.server.cycle.standin import machine_name
from notfallserver.server.cycle.state import Event, State, next_state
from notfallserver.server.cycle.work import Work
from notfallserver.server.pool.layout import stamp_time
from notfallserver.server.records.jobs import Job
from notfallserver.server.records.primaries import Primary
from notfallserver.server.vm.hypervisor import LIVE, MachineState
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Partition

log = logging.getLogger(__name__)

WITH_STANDIN = frozenset(
    {State.ACTIVATING, State.EMERGENCY, State.RECOVERING, State.SWITCHING_BACK}
)
"""States in which a stand-in exists: the original must not replicate, nobody may be removed."""


class Conductor:
    """One per server. Thread-safe."""

    def __init__(self, means: Means, runner: JobRunner) -> None:
        self._means = means
        self._runner = runner
        self._captures = Captures(means.hypervisor)
        self._files = FileAccess(means)
        self._asking = threading.Lock()
        Work(means, runner, self._captures, self._move, self._allow_again).register()
        self.duties = Duties(means, runner, self._move)

    # -- moving ----------------------------------------------------------------------------------

    def _move(
        self,
        primary: str,
        event: Event,
        who: str,
        why: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        row = self._means.catalogue.primaries.find(primary)
        after = next_state(State(row.state), event)
        self._means.catalogue.primaries.move(row.uuid, row.state, after, event, who, why, details)

    def _row(self, primary: str) -> Primary:
        return self._means.catalogue.primaries.find(primary)

    def _require(self, row: Primary, event: Event) -> None:
        next_state(State(row.state), event)

    # -- looking ---------------------------------------------------------------------------------

    def versions(self, primary: str) -> Sequence[actions.VersionInfo]:
        store = self._means.pool.primary(self._row(primary).uuid)
        found = store.versions()
        return [
            actions.VersionInfo(
                stamp=one.stamp,
                taken_at=stamp_time(one.stamp),
                source="agent" if one.manifest.kind == "replication" else "capture",
                consistency=one.manifest.consistency,
                size=sum(disk.size for disk in one.manifest.disks),
                used=one.bytes_used,
                disks=len(one.manifest.disks),
                newest=one is found[0],
                prepared=store.prepared(one.stamp) is not None,
            )
            for one in found
        ]

    def pool_state(self) -> actions.PoolState:
        free, size = self._means.pool.free()
        place = self._means.place
        return actions.PoolState(
            path=str(place.directory),
            filesystem="XFS image" if place.image else "own filesystem",
            reflink=place.reflink,
            size=size,
            free=free,
        )

    # -- normal operation ------------------------------------------------------------------------

    def replicate(self, primary: str, who: str) -> Job:
        row = self._row(primary)
        self._refuse_beside_standin(row)
        return self._runner.submit("replicate", row.uuid, {}, who, join=True)

    def _refuse_beside_standin(self, row: Primary) -> None:
        if State(row.state) in WITH_STANDIN:
            raise NotfallError(
                "stand-in-works",
                f"A stand-in does the work of {row.name} (state '{row.state}'); a replication of "
                "the original would go back behind what was written there.",
                "Bring the primary back with 'notfall recover', or give the stand-in up with "
                "'notfall undo'.",
                status=409,
            )

    # -- outage and activation -------------------------------------------------------------------

    def activate(self, primary: str, who: str, overrule_reason: str = "") -> Job:
        asked = datetime.now(timezone.utc)
        row = self._row(primary)
        with self._asking:
            self._require(row, Event.ACTIVATE)
            self._means.pool.primary(row.uuid).need_newest()
            verdict = self._decide(row, who, overrule_reason)
            self._move(row.uuid, Event.ACTIVATE, who, overrule_reason, verdict.to_json())
            self._end_replication(row.uuid)
            try:
                return self._runner.submit(
                    "activate",
                    row.uuid,
                    {"asked_at": asked.isoformat(), "overruled": overrule_reason},
                    who,
                )
            except NotfallError as error:
                self._move(row.uuid, Event.ACTIVATION_FAILED, "server", str(error))
                raise

    def _end_replication(self, primary: str) -> None:
        """A run that the outage cut off must not hold up the stand-in."""
        for job in self._means.catalogue.jobs.unfinished(primary, "replicate"):
            self._runner.cancel(job.id, "server")
        self._means.runs.end(primary)

    def _decide(self, row: Primary, who: str, reason: str = "") -> Verdict:
        """Ask the guard; raise its refusal, or journal that a person overruled it."""
        means = self._means
        verdict = examine_primary(means.settings, means.pool, means.catalogue.primaries, row)
        if verdict.allowed:
            return verdict
        journal = means.catalogue.journal
        if not reason.strip():
            journal.write(row.uuid, "refused", who, verdict.text, verdict.to_json())
            verdict.require()
        verdict = overrule(verdict, reason)
        journal.write(row.uuid, "overruled", who, reason, verdict.to_json())
        return verdict

    def _allow_again(self, primary: str, ctx: JobContext) -> None:
        row = self._row(primary)
        if self._means.hypervisor.state(machine_name(primary)) in LIVE:
            return
        try:
            self._decide(row, ctx.job.who, ctx.parameters.get("overruled", ""))
        except NotfallError as error:
            self._move(primary, Event.ACTIVATION_FAILED, "server", str(error))
            raise

    # -- recovery --------------------------------------------------------------------------------

    def plan_recovery(
        self, primary: str, target_code: str, disk_map: Mapping[str, str] | None
    ) -> actions.RecoveryPlan:
        return self._plan(primary, target_code, disk_map)[1]

    def _plan(
        self, primary: str, target_code: str, disk_map: Mapping[str, str] | None
    ) -> tuple[DiskPlan, actions.RecoveryPlan]:
        row = self._row(primary)
        target = self._means.catalogue.targets.by_code(target_code)
        original = self._means.pool.primary(row.uuid).need_newest().manifest.machine
        plan = plan_recovery(original, target.machine, disk_map or {})
        moves = tuple(
            actions.DiskMove(
                old_name=pair.original.name,
                old_size=pair.original.size,
                new_name=pair.disk.name,
                new_size=pair.disk.size,
                new_serial=pair.disk.serial,
                new_model=pair.disk.model,
                overwrites=tuple(_words(one) for one in pair.disk.partitions),
            )
            for pair in plan.pairs
        )
        shown = actions.RecoveryPlan(
            primary=row.uuid,
            target=target.id,
            moves=moves,
            untouched=tuple(one.name for one in plan.untouched),
        )
        return plan, shown

    def recover(
        self,
        primary: str,
        target_code: str,
        disk_map: Mapping[str, str] | None,
        confirmed: str,
        who: str,
    ) -> Job:
        row = self._row(primary)
        self._require(row, Event.RECOVER)
        plan, shown = self._plan(primary, target_code, disk_map)
        shown.confirm(confirmed)
        # Unlike any before: a late report of an earlier recovery must not count for this one.
        recovery = f"{shown.digest}-{secrets.token_hex(4)}"
        self._means.catalogue.targets.pair(shown.target, recovery)
        self._means.catalogue.primaries.note(
            row.uuid,
            recovery={"id": recovery, "target": shown.target, "disks": plan.orders()},
        )
        self._move(row.uuid, Event.RECOVER, who, details={"target": shown.target})
        try:
            return self._runner.submit("recover", row.uuid, {}, who)
        except NotfallError as error:
            self._means.catalogue.targets.release(shown.target)
            self._move(row.uuid, Event.RECOVERY_FAILED, "server", str(error))
            raise

    def switch_back(self, primary: str, who: str, at: datetime | None = None) -> Job:
        row = self._row(primary)
        self._require(row, Event.SWITCH_BACK)
        closeness = row.notes.get("recovery", {}).get("closeness", {})
        if not closeness.get("ready"):
            raise NotfallError(
                "not-ready",
                "The target is not close enough behind the stand-in yet.",
                "Follow the recovery with 'notfall jobs --follow'; switch back when it says ready.",
                retry=True,
                status=409,
            )
        parameters = {"at": at.isoformat()} if at else {}
        return self._runner.submit("switch_back", row.uuid, parameters, who)

    def undo(self, primary: str, who: str) -> Job:
        row = self._row(primary)
        state = State(row.state)
        for kind in ("activate", "recover", "switch_back"):
            for job in self._means.catalogue.jobs.unfinished(row.uuid, kind):
                return self._runner.cancel(job.id, who)
        if state not in (State.SWITCHING_BACK, State.EMERGENCY):
            raise NotfallError(
                "nothing-to-undo",
                f"In state '{row.state}' there is nothing to take back.",
                status=409,
            )
        if state is State.SWITCHING_BACK:
            # The recovered machine may be alive: two live copies must never be.
            self._decide(row, who)
        return self._runner.submit("undo", row.uuid, {}, who)

    # -- others ----------------------------------------------------------------------------------

    def remove(self, primary: str, who: str) -> None:
        row = self._row(primary)
        if State(row.state) in WITH_STANDIN or self._means.catalogue.jobs.unfinished(row.uuid):
            raise NotfallError(
                "primary-busy",
                f"{row.name} has a stand-in or a job under way.",
                "End those first.",
                status=409,
            )
        self._means.catalogue.primaries.remove(row.uuid, who)
        self._means.pool.remove_primary(row.uuid)

    def mount_files(self, primary: str, version: str | None, directory: Path, who: str) -> str:
        row = self._row(primary)
        store = self._means.pool.primary(row.uuid)
        wanted = store.version(version) if version else store.need_newest()
        self._files.mount(store, wanted, directory)
        self._means.catalogue.journal.write(
            row.uuid, "files-shown", who, details={"version": wanted.stamp, "at": str(directory)}
        )
        return wanted.stamp

    def unmount_files(self, directory: Path) -> None:
        self._files.unmount(directory)

    def close(self) -> None:
        """At the server's own end: nothing shown stays behind."""
        self._files.close()

    def build_rescue(self, who: str) -> Job:
        return self._runner.submit("rescue_build", None, {}, who, join=True)

    def wake_standins(self) -> None:
        """After a start, before any job: a server killed in a capture left its stand-in paused."""
        for row in self._means.catalogue.primaries.all():
            name = machine_name(row.uuid)
            try:
                if (
                    State(row.state) in WITH_STANDIN
                    and self._means.hypervisor.state(name) is MachineState.PAUSED
                ):
                    self._means.hypervisor.resume(name)
            except NotfallError as error:
                log.warning("%s: %s", row.name, error)

    def mend(self) -> None:
        """After a start: a state that was entered, but whose job was not yet written down."""
        for row in self._means.catalogue.primaries.all():
            unfinished = {job.kind for job in self._means.catalogue.jobs.unfinished(row.uuid)}
            asked = datetime.now(timezone.utc).isoformat()
            if row.state == State.ACTIVATING and "activate" not in unfinished:
                parameters = {"asked_at": asked, "again": True}
                self._runner.submit("activate", row.uuid, parameters, "server")
            elif row.state == State.RECOVERING and not unfinished & {"recover", "switch_back"}:
                self._runner.submit("recover", row.uuid, {}, "server")

    # -- the agents' door ------------------------------------------------------------------------

    def begin_run(self, primary: str, body: dict[str, Any]) -> dict[str, Any]:
        """An agent begins a replication, ordered or (from its own command line) not."""
        row = self._row(primary)
        self._refuse_beside_standin(row)
        begun = self._means.runs.begin(row.uuid, row.name, body)
        self._means.orders.withdraw(row.uuid)  # or a quick agent would take it a second time
        if not self._means.catalogue.jobs.unfinished(row.uuid, "replicate"):
            self._runner.submit("replicate", row.uuid, {}, "agent", join=True)
        return begun


def _words(partition: Partition) -> str:
    what = partition.filesystem or "unknown content"
    return f"partition {partition.number}: {what} {partition.label}".strip()
