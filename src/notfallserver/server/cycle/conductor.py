"""The conductor: the only module that moves a primary between the states of its life cycle.

People's wishes come in through :class:`~notfallserver.server.cycle.actions.Conductor`, agents and
targets through the doors at the end. What takes long becomes a job (``work.py``).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from socket import socket
from tempfile import TemporaryDirectory
from typing import Any

from notfallserver.server.cycle import actions
from notfallserver.server.cycle.adaptation import Adaptations
from notfallserver.server.cycle.agentless import is_agentless, refuse_agentless
from notfallserver.server.cycle.alarm.alarms import JOB, Alarms
from notfallserver.server.cycle.browse.shelf import Shelf
from notfallserver.server.cycle.care import Care
from notfallserver.server.cycle.carry import make_carry
from notfallserver.server.cycle.choice import Choice
from notfallserver.server.cycle.duties import Duties
from notfallserver.server.cycle.emergency.captures import Captures
from notfallserver.server.cycle.fencing import Fencing
from notfallserver.server.cycle.files import FileAccess
from notfallserver.server.cycle.handovers import HandOver
from notfallserver.server.cycle.hands import Hands
from notfallserver.server.cycle.imports import Imports
from notfallserver.server.cycle.inspection import look_around, readiness_of
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.mending import mend, wake_standins
from notfallserver.server.cycle.moves import because
from notfallserver.server.cycle.normal.forecast import Forecast
from notfallserver.server.cycle.normal.limits import LIMITS, Limits, Wish, changed, read_limits
from notfallserver.server.cycle.normal.readiness import Finding
from notfallserver.server.cycle.offloads.desk import Offloads
from notfallserver.server.cycle.outage.guard import Reason, Verdict, overrule
from notfallserver.server.cycle.outage.watch import examine_primary
from notfallserver.server.cycle.own_checks import OwnChecks
from notfallserver.server.cycle.plans.start_plan import StartPlans
from notfallserver.server.cycle.power import Power
from notfallserver.server.cycle.power_order import Order
from notfallserver.server.cycle.proofs import Proofs
from notfallserver.server.cycle.recoveries import Recoveries
from notfallserver.server.cycle.refusals import (
    IMPORTS,
    refuse_beside_standin,
    refuse_broken_index,
    refuse_importing,
)
from notfallserver.server.cycle.rehearsal.stage import rehearsal_name
from notfallserver.server.cycle.rehearsals import (
    Rehearse,
    clear_rehearsals,
    end_rehearsals,
    leave_rehearsal,
    picture_path,
)
from notfallserver.server.cycle.retention.keeper import Retention
from notfallserver.server.cycle.runner import JobContext, JobRunner
from notfallserver.server.cycle.scrub import Scrub
from notfallserver.server.cycle.seeds import Seeds, refuse_before_seed
from notfallserver.server.cycle.standin import machine_name
from notfallserver.server.cycle.state import WITH_STANDIN, Event, State, next_state
from notfallserver.server.cycle.surroundings import Surroundings
from notfallserver.server.cycle.target_imports import TargetImports
from notfallserver.server.cycle.trial import Trials, read_trial
from notfallserver.server.cycle.views import forecast_of, pool_state, versions_of
from notfallserver.server.cycle.way_back import WayBack
from notfallserver.server.cycle.work import Work
from notfallserver.server.fence.order import Fence
from notfallserver.server.host.files import discard_tree
from notfallserver.server.records.jobs import Job
from notfallserver.server.records.primaries import Primary
from notfallserver.server.vm.hypervisor import LIVE, MachineState
from notfallserver.wire.errors import NotfallError

_FOLLOW = {"replicate", "hand_over"}
"""Jobs that follow a run."""
JOB_ENDS_S = 10.0
"""A check that is cancelled is over after so many seconds."""


class Conductor:
    """One per server. Thread-safe."""

    def __init__(self, means: Means, runner: JobRunner) -> None:
        self._means = means
        self._runner = runner
        self._hands = Hands()
        self._captures = Captures(means.hypervisor, self._hands)
        self._power = Power(means, self._hands, self._decide)
        self._files = FileAccess(means)
        self.shelf = Shelf(means)
        self.checks = OwnChecks(means)
        self.choice = Choice(means)
        self.alarms = Alarms(means, runner)
        self.alarms.register()
        self._asking = threading.Lock()
        self.retention = Retention(means, runner, self._hands, self.shelf, self._files)
        self.retention.register()
        care = Care(means)
        Scrub(means, runner, care).register()
        self.fencing = Fencing(means, self.examine, Fence(means.settings.data_dir / "fence"))
        work = Work(
            means, runner, self._captures, care, self._move, self._allow_again, self.fencing
        )
        work.register()
        self.seeds = Seeds(means, runner, work)
        self.seeds.register()
        self.imports = Imports(means, runner, work)
        self.target_imports = TargetImports(means, runner, self.imports)
        self.target_imports.register()
        self.carry = make_carry(means, runner, work)
        WayBack(means, runner, work, self._move).register()
        self._recoveries = Recoveries(means, runner, self._move, self._require)
        self.adaptations = Adaptations(means, runner, work, self._recoveries.target_disks)
        self.adaptations.register()
        self.offloads = Offloads(means, runner, self._move)
        self.offloads.register()
        self.trials = Trials(means)
        self.handovers = HandOver(means, runner, work, self._move, self.examine, self.readiness)
        self.handovers.register()
        self._rehearse = Rehearse(means, runner, work.preparing, self._move)
        self._rehearse.register()
        self.start_plans = StartPlans(means, runner, self.activate, self.examine)
        self.start_plans.register()
        proofs = Proofs(
            means,
            lambda primary: self.rehearse(primary, "schedule"),
            lambda primary, version: self.scrub(primary, "schedule", version),
            lambda primary: self.replicate(primary, "schedule", deep=True),
        )
        self.duties = Duties(
            means, runner, self._move, self._power, proofs, self.examine, self.retention.look
        )

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
        with self._hands.on(row.uuid):
            self._means.catalogue.primaries.move(
                row.uuid, row.state, after, event, who, why, details
            )

    def _row(self, primary: str) -> Primary:
        return self._means.catalogue.primaries.find(primary)

    def _require(self, row: Primary, event: Event) -> None:
        next_state(State(row.state), event)

    # -- looking ---------------------------------------------------------------------------------

    def versions(self, primary: str) -> Sequence[actions.VersionInfo]:
        return versions_of(self._means, self._row(primary))

    def pool_state(self) -> actions.PoolState:
        return pool_state(self._means)

    def forecast(self, primary: str) -> Forecast | None:
        return forecast_of(self._means, self._row(primary))

    def readiness(self, primary: str) -> Sequence[Finding]:
        return readiness_of(self._means, self._row(primary))

    def surroundings(self) -> Surroundings:
        return look_around(self._means)

    # -- normal operation ------------------------------------------------------------------------

    def replicate(self, primary: str, who: str, deep: bool = False) -> Job:
        row = self._row(primary)
        refuse_beside_standin(row)
        self.handovers.refuse_under_way(row)
        refuse_agentless(row)
        refuse_before_seed(row)
        job = self._runner.submit("replicate", row.uuid, {"deep": deep}, who, join=True)
        if deep and job.parameters.get("deep") is not True:
            raise NotfallError(
                "replication-under-way",
                "A replication that is not deep is under way.",
                "Wait for its end (notfall jobs), then order the deep one again.",
                retry=True,
                status=409,
            )
        return job

    def scrub(self, primary: str, who: str, version: str | None = None) -> Job:
        row = self._row(primary)
        parameters = {}
        if version is not None:
            parameters["version"] = self._means.pool.primary(row.uuid).version(version).stamp
        return self._runner.submit("scrub", row.uuid, parameters, who, join=True)

    def import_seed(self, directory: Path, primary: str, code: str, who: str) -> Job:
        return self.seeds.begin_import(directory, primary, code, who, refuse_beside_standin)

    def export_seed(
        self, primary: str, directory: Path, version: str | None, who: str
    ) -> tuple[Job, str]:
        return self.seeds.begin_export(self._row(primary), directory, version, who)

    def forget_seed(self, primary: str, who: str) -> None:
        self.seeds.forget(self._row(primary), who)

    # -- rehearsal -------------------------------------------------------------------------------

    def rehearse(self, primary: str, who: str, keep_running: bool = False) -> Job:
        row = self._row(primary)
        with self._asking:
            self._require(row, Event.REHEARSE)
            self._rehearse.refuse(row)
            self._move(row.uuid, Event.REHEARSE, who)
            parameters = {"keep_running": keep_running}
            try:
                return self._runner.submit("rehearse", row.uuid, parameters, who)
            except NotfallError as error:
                leave_rehearsal(self._means, self._move, row.uuid, str(error))
                raise

    def end_rehearsal(self, primary: str, who: str) -> Job:
        row = self._row(primary)
        for job in self._means.catalogue.jobs.unfinished(row.uuid, "rehearse"):
            return self._runner.cancel(job.id, who)
        raise NotfallError(
            "no-rehearsal",
            f"No rehearsal of {row.name} is under way.",
            "Begin one with 'notfall rehearse'.",
            status=409,
        )

    def rehearsal_picture(self, primary: str, rehearsal: str) -> bytes:
        row = self._row(primary)
        known = self._means.catalogue.rehearsals.find(rehearsal)
        if known is None or known.primary != row.uuid or not known.picture:
            raise NotfallError("no-picture", "There is no such picture.", status=404)
        return picture_path(self._means, row.uuid, known.id).read_bytes()

    # -- outage and activation -------------------------------------------------------------------

    def activate(
        self,
        primary: str,
        who: str,
        overrule_reason: str = "",
        switch_off: bool = False,
        version: str | None = None,
    ) -> Job:
        asked = datetime.now(timezone.utc)
        row = self._row(primary)
        self.handovers.refuse_under_way(row)
        self._require(row, Event.ACTIVATE)
        stamp = self.choice.settle(row, version)
        if switch_off:
            self.fencing.need(row)
            verdict = self.examine(row.uuid)  # which decides after the original is off
        else:
            verdict = self._decide(row, who, overrule_reason)
        with self._asking:  # not while the guard is asked: several may be started at once
            if not switch_off and (now := self._row(row.uuid)).last_seen != row.last_seen:
                # it was heard meanwhile
                verdict = self._decide(now, who, overrule_reason, verdict.reason)
            self._move(row.uuid, Event.ACTIVATE, who, overrule_reason, verdict.to_json())
            self._end_replication(row.uuid)
            end_rehearsals(self._means, self._runner, row.uuid, everybody=True)
            try:
                parameters = {
                    "asked_at": asked.isoformat(),
                    "overruled": overrule_reason,
                    "switch_off": switch_off,
                    "version": stamp,
                }
                return self._runner.submit("activate", row.uuid, parameters, who)
            except NotfallError as error:
                self._move(row.uuid, Event.ACTIVATION_FAILED, "server", *because(error))
                raise

    def _end_replication(self, primary: str) -> None:
        """A run that the outage cut off must not hold up the stand-in."""
        for job in self._means.catalogue.jobs.unfinished(primary):
            if job.kind in {"replicate", "hand_over"} | IMPORTS:
                self._runner.cancel(job.id, "server")
        self._means.runs.end(primary)

    def examine(
        self, primary: str, fenced_age: float | None = None, claim: bool = False
    ) -> Verdict:
        means = self._means
        row = self._row(primary)
        primaries = means.catalogue.primaries
        return examine_primary(means.present(), means.pool, primaries, row, fenced_age, claim)

    def screen(self, primary: str) -> bytes:
        row = self._row(primary)
        rehearsing = row.state == State.REHEARSING
        name = rehearsal_name(row.uuid) if rehearsing else machine_name(row.uuid)
        with TemporaryDirectory(prefix="notfall-screen-") as directory:
            picture = Path(directory, "screen.png")
            self._means.hypervisor.screenshot(name, picture)
            return picture.read_bytes()

    def machine(self, primary: str) -> MachineState:
        return self._means.hypervisor.state(machine_name(self._row(primary).uuid))

    def console(self, primary: str) -> socket:
        row = self._row(primary)
        if State(row.state) not in WITH_STANDIN:
            raise NotfallError("no-stand-in", f"{row.name} has no stand-in.", status=409)
        return self._means.hypervisor.console(machine_name(row.uuid))

    def power(
        self, primary: str, order: Order, who: str, overrule_reason: str = ""
    ) -> MachineState:
        return self._power.give(self._row(primary), order, who, overrule_reason)

    def _decide(
        self, row: Primary, who: str, reason: str = "", before: Reason | None = None
    ) -> Verdict:
        """Ask the guard; raise its refusal, or journal that a person overruled it: once, where
        just that was decided ``before``."""
        means = self._means
        verdict = self.examine(row.uuid, claim=True)
        if verdict.allowed:
            return verdict
        journal = means.catalogue.journal
        if not reason.strip():
            journal.write(row.uuid, "refused", who, verdict.text, verdict.to_json())
            verdict.require()
        verdict = overrule(verdict, reason)
        if before is not Reason.OVERRULED:
            journal.write(row.uuid, "overruled", who, reason, verdict.to_json())
        return verdict

    def _allow_again(self, primary: str, ctx: JobContext) -> None:
        row = self._row(primary)
        if self._means.hypervisor.state(machine_name(primary)) in LIVE:
            return
        self._decide(row, ctx.job.who, ctx.parameters.get("overruled", ""))

    # -- recovery --------------------------------------------------------------------------------

    def plan_recovery(
        self,
        primary: str,
        target_code: str,
        disk_map: Mapping[str, str] | None,
        grow: bool = False,
    ) -> actions.RecoveryPlan:
        return self._recoveries.plan(self._row(primary), target_code, disk_map, grow)

    def recover(
        self,
        primary: str,
        target_code: str,
        disk_map: Mapping[str, str] | None,
        confirmed: str,
        who: str,
        grow: bool = False,
    ) -> Job:
        row = self._row(primary)
        return self._recoveries.begin(row, target_code, disk_map, confirmed, who, grow)

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
        unfinished = self._means.catalogue.jobs.unfinished
        if (cancelled := self.handovers.cancel(row, who)) is not None:
            return cancelled
        if state is State.NORMAL and read_trial(row.notes):
            return self.handovers.begin(row, who, "back to the stand-in in the trial period")
        if state is State.SWITCHING_BACK:
            for job in unfinished(row.uuid, "switch_back"):
                self._runner.cancel(job.id, who)
        else:
            for kind in ("activate", "switch_back", "recover"):
                for job in unfinished(row.uuid, kind):
                    return self._runner.cancel(job.id, who)
        over = state is State.OUTAGE and is_agentless(row)  # a person says that it works again
        if state not in (State.SWITCHING_BACK, State.EMERGENCY) and not over:
            raise NotfallError(
                "nothing-to-undo",
                f"In state '{row.state}' there is nothing to take back.",
                status=409,
            )
        with self._hands.on(row.uuid):  # so that nobody switches a stand-in on beside it
            return self._runner.submit("undo", row.uuid, {"undoes": state}, who, join=True)

    # -- others ----------------------------------------------------------------------------------

    def remove(self, primary: str, who: str) -> None:
        row = self._row(primary)
        for job in self._means.catalogue.jobs.unfinished(row.uuid):
            if job.kind in ("scrub", JOB):
                self._runner.cancel(job.id, who)
                self._runner.wait(job.id, JOB_ENDS_S)
        if State(row.state) in WITH_STANDIN or self._means.catalogue.jobs.unfinished(row.uuid):
            raise NotfallError(
                "primary-busy",
                f"{row.name} has a stand-in or a job under way.",
                "End those first.",
                status=409,
            )
        self.shelf.close(row.uuid)
        self._means.catalogue.primaries.remove(row.uuid, who)
        self._means.catalogue.rehearsals.forget(row.uuid)
        discard_tree(picture_path(self._means, row.uuid, "").parent)
        self._means.pool.remove_primary(row.uuid)

    def set_limits(self, primary: str, wish: Wish, clear: bool, who: str) -> Limits:
        row = self._row(primary)
        before = Limits() if clear else read_limits(row.notes.get(LIMITS))
        limits = changed(before, wish)
        told = limits.to_json() if limits != Limits() else None
        self._means.catalogue.primaries.note(row.uuid, limits=told)
        self._means.catalogue.journal.write(row.uuid, "limits-changed", who, details=told)
        return limits

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
        self.shelf.close_all()

    def build_rescue(self, who: str) -> Job:
        return self._runner.submit("rescue_build", None, {}, who, join=True)

    def wake_standins(self) -> None:
        """After a start, before any job."""
        wake_standins(self._means)

    def clear_rehearsals(self) -> None:
        """After a start, before any job: nothing of a rehearsal goes on."""
        clear_rehearsals(self._means)

    def mend(self) -> None:
        """After a start."""
        mend(self._means, self._runner, self._move)
        self.alarms.catch_up()

    # -- the agents' door ------------------------------------------------------------------------

    def begin_seed(self, primary: str) -> dict[str, Any]:
        """An agent is about to write its first copy onto a removable disk."""
        row = self._row(primary)
        refuse_beside_standin(row)
        return self.seeds.begin(row)

    def begin_run(self, primary: str, body: dict[str, Any]) -> dict[str, Any]:
        """An agent begins a replication, ordered or (from its own command line) not."""
        row = self._row(primary)
        refuse_beside_standin(row)
        refuse_before_seed(row)
        refuse_importing(self._means, row)
        refuse_broken_index(self._means, self._runner, row)
        begun = self._means.runs.begin(row.uuid, row.name, body)
        self._means.orders.withdraw(row.uuid)  # or a quick agent would take it a second time
        if not {job.kind for job in self._means.catalogue.jobs.unfinished(row.uuid)} & _FOLLOW:
            self._runner.submit("replicate", row.uuid, {}, "agent", join=True)
        return begun
