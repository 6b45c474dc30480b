"""The jobs of the way back: recovery to a target, switch-back, and undoing.

Like all jobs they are run again from the start when the server was interrupted. A state is always
left before what belongs to it is cleared away, so what a crash leaves is at most rubbish.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from notfallserver.server.cycle.agentless import answers, is_agentless
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.moves import Move, because
from notfallserver.server.cycle.outage.watch import examine_primary
from notfallserver.server.cycle.recoveries import reshaper_of
from notfallserver.server.cycle.recovery.copying import Link
from notfallserver.server.cycle.recovery.keep_up import Closeness, keep_up
from notfallserver.server.cycle.recovery.plan import only_disks
from notfallserver.server.cycle.recovery.switch import (
    SHUT_DOWN_WITHIN,
    await_primary,
    bring_back_standin,
    hand_back,
)
from notfallserver.server.cycle.runner import Cancelled, JobContext, JobRunner
from notfallserver.server.cycle.standin import machine_name
from notfallserver.server.cycle.state import WITH_STANDIN, Event, State
from notfallserver.server.cycle.trial import Trials
from notfallserver.server.cycle.work import Work
from notfallserver.server.pool.reshaped import drop_reshaped
from notfallserver.server.records.jobs import Job
from notfallserver.server.records.primaries import Primary
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

KEEP_UP_PAUSE_S = 120.0
"""How long a ready target rests between two rounds."""

PREPARATION_ENDS_S = 15.0

GOES_DOWN_S = 30.0
"""So long the rescue system may still answer with the address that the machine shall have."""


@dataclass(frozen=True)
class WayBack:
    """The job functions from emergency operation back to normal."""

    means: Means
    runner: JobRunner
    work: Work
    move: Move

    def register(self) -> None:
        """Name the jobs and which of them cannot run together for one primary."""
        self.runner.register("recover", self.recover)
        self.runner.register("switch_back", self.switch_back)
        self.runner.register("settle", self.settle, {"recover", "switch_back", "undo"})
        self.runner.register("undo", self.undo, {"activate", "recover"})

    def _row(self, primary: str) -> Primary:
        return self.means.catalogue.primaries.find(primary)

    def _link(self, primary: str) -> Link:
        """The connection to the target that this primary is being recovered to."""
        notes = self._row(primary).notes.get("recovery")
        if not notes:
            raise NotfallError("no-recovery", "There is no recovery under way.", status=409)
        shape = notes.get("shape")

        def reshaped(ctx: JobContext, version: str) -> None:
            if shape:
                store = self.means.pool.primary(primary)
                reshaper_of(self.means).make(ctx, store, version, shape)

        return Link(
            *(self.means.desk, notes["target"], primary, notes["id"], notes["disks"]),
            grow=bool(notes.get("grow")),
            ready=reshaped,
        )

    def _forget_recovery(self, primary: str) -> None:
        """The target is free again, and nothing reminds of the recovery."""
        if self._row(primary).notes.get("recovery"):
            link = self._link(primary)
            link.release()
            drop_reshaped(self.means.pool.primary(primary))
            self.means.catalogue.targets.release(link.target)
            self.means.catalogue.primaries.note(primary, recovery=None)

    # -- recovery --------------------------------------------------------------------------------

    def recover(self, ctx: JobContext) -> dict[str, Any]:
        primary = ctx.primary
        if self._row(primary).state not in (State.RECOVERING, State.SWITCHING_BACK):
            self._forget_recovery(primary)
            return {"state": "over before the server was restarted"}

        def tell(closeness: Closeness) -> None:
            notes = self._row(primary).notes.get("recovery", {})
            self.means.catalogue.primaries.note(
                primary, recovery={**notes, "closeness": closeness.to_json()}
            )

        try:
            last = keep_up(
                ctx,
                self._link(primary),
                lambda: self._capture(ctx)[0],
                tell,
                lambda: self._handed_over(primary),
                KEEP_UP_PAUSE_S,
            )
        except (Exception, Cancelled) as error:
            if isinstance(error, NotfallError) and error.code == "version-damaged":
                self.runner.submit("scrub", primary, {}, "server", join=True)
            if not self._handed_over(primary):  # else the switch-back knows what to do
                self.move(primary, Event.RECOVERY_FAILED, ctx.job.who, *because(error))
                self._forget_recovery(primary)
            raise
        return last.to_json()

    def _handed_over(self, primary: str) -> bool:
        return self._row(primary).state == State.SWITCHING_BACK

    # -- switch-back -----------------------------------------------------------------------------

    def switch_back(self, ctx: JobContext) -> dict[str, Any]:
        primary = ctx.primary
        self._await_moment(ctx)
        state = State(self._row(primary).state)
        if ctx.notes.get("begun") and state not in (State.RECOVERING, State.SWITCHING_BACK):
            self._clear_after(primary, state)
            return {"state": "over before the server was restarted"}
        if state is not State.SWITCHING_BACK:
            ctx.note(begun=True, began_at=time.time())
            self.move(primary, Event.SWITCH_BACK, ctx.job.who)
        try:
            self._await_last_round(ctx)
            link = self._link(primary)
            store = self.means.pool.primary(primary)
            shape = self._row(primary).notes["recovery"].get("shape")
            original = only_disks(store.need_current().manifest.machine, shape).to_json()
            name = machine_name(primary)
            times, changes = hand_back(
                ctx, link, self.means.hypervisor, name, lambda: self._capture(ctx), original
            )
        except (Exception, Cancelled) as error:
            if not ctx.notes.get("rebooting"):
                self._take_back(primary, ctx.job.who, *because(error))
            raise
        own = round(sum(times.steps.values()), 2)
        since = time.monotonic() + (GOES_DOWN_S if is_agentless(self._row(primary)) else 0)
        seconds = await_primary(
            ctx, lambda: time.monotonic() >= since and is_back(self.means, self._row(primary))
        )
        result = {
            "version": ctx.notes["final"],
            "steps": {**times.steps, "boot": round(seconds, 1)},
            "own_s": own,
            "downtime_s": round(time.time() - ctx.notes["began_at"], 1),
            "written": ctx.notes.get("written", 0),
            "verified": ctx.notes.get("verified", 0),
            "changes": changes,
        }
        self.move(primary, Event.RECOVERED, ctx.job.who, details=result)
        self._clear_after(primary, State.NORMAL)
        return result

    def _await_moment(self, ctx: JobContext) -> None:
        """Wait for the time that was set for the switch-back, as long as the recovery goes on."""
        if ctx.notes.get("begun") or not (moment := ctx.parameters.get("at")):
            return
        until = datetime.fromisoformat(moment).timestamp()
        while (left := until - time.time()) > 0:
            if self._row(ctx.primary).state != State.RECOVERING:
                return  # the move that follows is refused, and says why
            ctx.progress("waiting for the time set")
            ctx.sleep(min(left, 5))

    def _await_last_round(self, ctx: JobContext) -> None:
        for recover in self.means.catalogue.jobs.unfinished(ctx.primary, "recover"):
            ctx.progress("finishing the round under way")
            self._await_end(ctx, recover)

    def _await_end(self, ctx: JobContext, job: Job) -> None:
        while not self.runner.wait(job.id, 0).finished:
            ctx.sleep(0.2)

    def _capture(self, ctx: JobContext) -> tuple[str, int]:
        """A version for the target, and how many bytes changed; a damaged one is refused."""
        taken = self.work.capture(ctx)
        stamp = str(taken["version"])
        self.work.care.require_sound(self.means.pool.primary(ctx.primary), stamp)
        return stamp, int(taken["bytes_changed"])

    def _take_back(self, primary: str, who: str, why: str, details: dict[str, Any]) -> None:
        """The stand-in works on. Only while the target is not started from its own disks."""
        bring_back_standin(self.means.hypervisor, machine_name(primary))
        self.move(primary, Event.SWITCH_BACK_FAILED, who, why, details)
        self._forget_recovery(primary)

    def _clear_after(self, primary: str, state: State) -> None:
        """After the switch-back; what the stand-in wrote is a version, also on the target."""
        if state not in WITH_STANDIN:
            if state is State.NORMAL and self._row(primary).notes.get("recovery"):
                self._keep_way_back(primary)
            self.work.drop_standin(self.means.pool.primary(primary))
            if recovery := self._row(primary).notes.get("recovery"):
                self.means.catalogue.targets.forget(recovery["target"])
        self._forget_recovery(primary)

    def _keep_way_back(self, primary: str) -> None:
        """For the trial period; without room for it the image is prepared later.

        One that is being prepared is of an older version: nobody waits for it.
        """
        for job in self.means.catalogue.jobs.unfinished(primary, "prepare"):
            with suppress(NotfallError):  # it is just over
                self.runner.cancel(job.id, "server")
            self.runner.wait(job.id, PREPARATION_ENDS_S)
        try:
            self.work.keep_standin(self.means.pool.primary(primary))
        except (NotfallError, OSError) as error:
            log.warning("the stand-in's disks can't be kept: %s", error)
        if not is_agentless(self._row(primary)):  # the way back would be a handover
            Trials(self.means).begin(primary)

    def settle(self, ctx: JobContext) -> dict[str, Any]:
        """The recovered primary came after all, when nobody waited for it any more."""
        row = self._row(ctx.primary)
        if row.state == State.SWITCHING_BACK and is_back(self.means, row):
            self.move(row.uuid, Event.RECOVERED, ctx.job.who, "it came late")
        self._clear_after(row.uuid, State(self._row(row.uuid).state))
        return {"state": self._row(row.uuid).state}

    # -- undoing ---------------------------------------------------------------------------------

    def undo(self, ctx: JobContext) -> dict[str, Any]:
        """One step back; what a stand-in wrote stays as a version."""
        # The state when it was asked for: the present one may be a step further back already.
        if ctx.parameters["undoes"] == State.SWITCHING_BACK:
            self._undo_switch_back(ctx)
        elif self._row(ctx.primary).state == State.EMERGENCY:
            self._give_up_standin(ctx)
        elif self._row(ctx.primary).state == State.OUTAGE and is_agentless(self._row(ctx.primary)):
            self.move(ctx.primary, Event.PRIMARY_BACK, ctx.job.who, "a person says so")
        return {"state": self._row(ctx.primary).state}

    def _undo_switch_back(self, ctx: JobContext) -> None:
        for job in self.means.catalogue.jobs.unfinished(ctx.primary, "switch_back"):
            ctx.progress("waiting for the end of the switch-back")
            self._await_end(ctx, job)
        if self._row(ctx.primary).state == State.SWITCHING_BACK:
            # It got as far as the reboot: the recovered machine may be alive, ask the guard.
            self.work.allow(ctx.primary, ctx)
            self._take_back(ctx.primary, ctx.job.who, "undone", {"code": "undone"})
        self._forget_recovery(ctx.primary)

    def _give_up_standin(self, ctx: JobContext) -> None:
        store = self.means.pool.primary(ctx.primary)
        name = machine_name(ctx.primary)
        ctx.progress("stopping the stand-in")
        self.means.hypervisor.shutdown(name)
        if not self.means.hypervisor.wait_off(name, SHUT_DOWN_WITHIN):
            self.means.hypervisor.kill(name)
        if store.standin() is not None:
            self.work.capture(ctx)
        self.work.drop_standin(store)
        self.move(ctx.primary, Event.STANDIN_DROPPED, ctx.job.who, "undone")


def is_back(means: Means, row: Primary) -> bool:
    """Whether the recovered machine works: its agent has called, or, where there is none, it
    answers in the network while the stand-in is off."""
    if not is_agentless(row):
        return made_by_recovery(row)
    return answers(examine_primary(means.present(), means.pool, means.catalogue.primaries, row))


def made_by_recovery(row: Primary) -> bool:
    """Whether the machine that called last is the one that this primary's recovery made.

    The original may call, too, when somebody has switched it on again.
    """
    recovery = row.notes.get("recovery", {}).get("id")
    return bool(recovery and row.agent_role == "primary" and row.notes.get("made_by") == recovery)
