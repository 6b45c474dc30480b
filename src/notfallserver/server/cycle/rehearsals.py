"""The job of a rehearsal, and the evidence that it leaves.

The file systems of a clone of the newest prepared image are checked; then another clone starts in
a network without a way out, while the original works on. Once it is known whether it answers, what
was tried is written down (``records.rehearsals``, and beside the version: ``pool.proof``) with a
picture of its screen; then it is put away, or runs on for people to look at. After a restart of
the server nothing goes on: what is left is removed, and the rehearsal is over.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from notfallserver.server.cycle.activation.start import ANSWER_WITHIN, Answer, await_answer
from notfallserver.server.cycle.alarm.alarms import pinned_clean
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.moves import Move
from notfallserver.server.cycle.own_checks import script_place
from notfallserver.server.cycle.proofs import SERIES
from notfallserver.server.cycle.rehearsal.ask import Asked, ask_all, failed_error
from notfallserver.server.cycle.rehearsal.checks import read_checks_of
from notfallserver.server.cycle.rehearsal.filesystems import (
    check_filesystems,
    damaged_error,
    differing_error,
)
from notfallserver.server.cycle.rehearsal.hear import hear, no_login_error
from notfallserver.server.cycle.rehearsal.plan import (
    Need,
    asking_addresses,
    leases_of,
    refuse_unaskable,
    refuse_without_memory,
    why_silent,
)
from notfallserver.server.cycle.rehearsal.stage import (
    CHECKED,
    CLONES,
    Stage,
    describe_rehearsal,
    on_stage,
    rehearsal_name,
)
from notfallserver.server.cycle.runner import Cancelled, JobContext, JobRunner
from notfallserver.server.cycle.standin import standin_memory
from notfallserver.server.cycle.state import Event, State
from notfallserver.server.host.files import replace_file
from notfallserver.server.host.hidden_network import remove_cables
from notfallserver.server.host.memory import free_memory
from notfallserver.server.pool.proof import Evidence
from notfallserver.server.pool.store import Clones
from notfallserver.server.records.primaries import Primary
from notfallserver.server.records.rehearsals import Outcome, Rehearsal
from notfallserver.server.rescue_medium import find_medium
from notfallserver.server.vm.hypervisor import LIVE
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

log = logging.getLogger(__name__)

ENDS_WITHIN_S = 15.0
"""An activation waits so long for the end of a rehearsal; they can't meet in any case."""
NOTE = "rehearsal"
"""In a primary's notes: the last rehearsal that said something, for showing it quickly."""
TICK_S = 2.0


@dataclass
class Trial:
    """What a rehearsal under way has found out so far."""

    evidence: Evidence = field(default_factory=Evidence)

    def add(self, **known: Any) -> None:
        self.evidence = replace(self.evidence, **known)


@dataclass(frozen=True)
class Rehearse:
    """The job function, and when it may begin."""

    means: Means
    runner: JobRunner
    preparing: Mapping[str, threading.Lock]
    move: Move

    def register(self) -> None:
        self.runner.register("rehearse", self.rehearse)

    # -- before ----------------------------------------------------------------------------------

    def refuse(self, row: Primary) -> None:
        """Raise where a rehearsal can't begin now, or would be in somebody's way."""
        for job in self.means.catalogue.jobs.unfinished(kind="rehearse"):
            raise NotfallError(
                "rehearsal-under-way",
                f"A rehearsal is under way (job {job.id}).",
                "End it first, or wait for its end.",
                retry=True,
                status=409,
            )
        machine = self._machine(row.uuid, self._prepared(row.uuid))
        refuse_unaskable(machine, self._asking(machine))
        refuse_without_memory(
            free_memory(),
            standin_memory(self.means.for_standin(row.uuid), machine),
            [
                Need(State(one.state), standin_memory(self.means.settings, one.machine))
                for one in self.means.catalogue.primaries.all()
                if one.machine is not None and one.uuid != row.uuid
            ],
        )

    def _prepared(self, primary: str) -> Clones:
        prepared = self.means.pool.primary(primary).newest_prepared()
        if prepared is None:
            raise NotfallError(
                "rehearsal-not-prepared",
                "No version of this primary is prepared yet.",
                "Wait until 'notfall versions' says that one is.",
                retry=True,
                status=409,
            )
        return prepared

    def _machine(self, primary: str, prepared: Clones) -> Machine:
        return self.means.pool.primary(primary).version(prepared.version).manifest.machine

    def _asking(self, machine: Machine) -> list[str]:
        """Ours in its network; never this server's own, so that its agent finds nobody there."""
        ours = [urlsplit(one).hostname or "" for one in self.means.urls]
        return asking_addresses(machine, ours)

    # -- the job ---------------------------------------------------------------------------------

    def rehearse(self, ctx: JobContext) -> dict[str, Any]:
        trial = Trial()
        try:
            if ctx.notes.get("began"):
                with suppress(NotfallError):  # a later start tries again
                    clear_rehearsal(self.means, ctx.primary)
                self._keep_once(ctx, Outcome.BROKEN_OFF, _broken_off("restart"))
            else:
                ctx.note(began=_now().isoformat())
                trial.add(rehearsal=ctx.job.id, at=ctx.notes["began"])
                self._play(ctx, trial)
        except Cancelled:
            log.info("the rehearsal %s is ended", ctx.job.id)
        except NotfallError as error:
            if error.code == "stand-in-off":
                trial.add(started=False)
            self._keep_once(ctx, Outcome.FAILED, error, trial.evidence)
        except Exception as error:
            told = NotfallError("internal", f"{type(error).__name__}: {error}", status=500)
            self._end(ctx, self._keep_once(ctx, Outcome.FAILED, told, trial.evidence))
            raise
        return self._end(ctx, self._keep_once(ctx, Outcome.BROKEN_OFF, _broken_off("ended")))

    def _play(self, ctx: JobContext, trial: Trial) -> None:
        means, primary = self.means, ctx.primary
        if means.catalogue.primaries.find(primary).state != State.REHEARSING:
            raise Cancelled  # an outage came first
        with ExitStack() as stack:
            store, spare = means.pool.primary(primary), stack.enter_context(ExitStack())
            with self.preparing[primary]:  # else the image might be replaced while it is cloned
                prepared = self._prepared(primary)
                clones = stack.enter_context(store.working_clones(prepared, CLONES))
                throwaway = spare.enter_context(store.working_clones(prepared, CHECKED))
            ctx.note(version=prepared.version)
            machine = self._machine(primary, prepared)
            self._check(ctx, trial, throwaway)
            spare.close()
            ctx.progress("starting in the hidden network")
            spec = describe_rehearsal(means.for_standin(primary), primary, machine, clones)
            stage = stack.enter_context(
                on_stage(means.hypervisor, spec, self._asking(machine), leases_of(machine))
            )
            began, whole = time.monotonic(), means.settings.rehearsal_minutes * 60.0
            answer = await_answer(
                ctx,
                means.hypervisor,
                stage.name,
                machine,
                stage.network.connect,
                min(ANSWER_WITHIN, whole),
            )
            if answer.alive:
                self._hear_system(ctx, trial, clones, machine)
            self._keep_answer(ctx, trial, stage, machine, answer)
            while ctx.parameters.get("keep_running") and time.monotonic() - began < whole:
                if means.hypervisor.state(stage.name) not in LIVE:
                    return  # somebody shut it down from inside
                ctx.progress("works in the hidden network")
                ctx.sleep(TICK_S)

    # -- evidence --------------------------------------------------------------------------------

    def _check(self, ctx: JobContext, trial: Trial, clones: Clones) -> None:
        """That there is no checking them is no fault of the copy."""
        means, medium = self.means, find_medium(self.means.rescue_dir)
        if medium is None:
            trial.add(unchecked="The rescue medium is not built.")
            return
        ctx.progress("checking the file systems")
        try:
            manifest = means.pool.primary(ctx.primary).version(clones.version).manifest
            found = check_filesystems(
                means.settings, means.hypervisor, medium, clones, manifest, ctx.check
            )
            trial.add(**vars(found))
        except NotfallError as error:
            log.warning("the file systems of %s could not be checked: %s", clones.version, error)
            trial.add(unchecked=error.cause[:400])

    def _keep_answer(
        self, ctx: JobContext, trial: Trial, stage: Stage, machine: Machine, answer: Answer
    ) -> None:
        """All that was waited for is known now."""
        trial.add(
            started=answer.alive,
            start_s=round(answer.seconds, 1) if answer.complete else None,
            ports=tuple(answer.ports),
            silent=tuple(answer.silent),
        )
        if answer.alive:
            self._ask_own(ctx, trial, stage, machine)
        trial.add(picture=self._take_picture(ctx, stage.name))
        error = self._what_failed(trial.evidence, stage, machine)
        self._keep(ctx, Outcome.FAILED if error else Outcome.PASSED, error, trial.evidence)

    def _hear_system(self, ctx: JobContext, trial: Trial, clones: Clones, machine: Machine) -> None:
        def pause() -> None:
            ctx.progress("waiting for the service")
            ctx.sleep(1)

        trial.add(**vars(hear(clones.directory / "console.log", machine, pause)))

    def _ask_own(self, ctx: JobContext, trial: Trial, stage: Stage, machine: Machine) -> None:
        """The checks that people want made."""
        checks = read_checks_of(self.means.catalogue.primaries.find(ctx.primary).notes)
        if checks:
            ctx.progress("checking its services")
            place = script_place(self.means.settings)
            asked = Asked(stage.network, machine.hostname, machine.addresses(), place)
            trial.add(checks=ask_all(checks, asked, ctx.sleep))

    def _what_failed(
        self, evidence: Evidence, stage: Stage, machine: Machine
    ) -> NotfallError | None:
        """The worst of it: what a later step showed is worth little on a damaged file system."""
        if evidence.damaged:
            return damaged_error(evidence.damaged)
        if evidence.differing:
            return differing_error(evidence.differing)
        if not evidence.started or evidence.silent:
            heard = bool(stage.network.heard())
            return why_silent(
                evidence.ports, evidence.silent, machine.addresses(), heard, bool(evidence.started)
            )
        if evidence.failed_checks:
            return failed_error(evidence.failed_checks)
        return no_login_error() if evidence.lacks_login else None

    def _take_picture(self, ctx: JobContext, name: str) -> bool:
        try:
            path = picture_path(self.means, ctx.primary, ctx.job.id)
            path.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(prefix="notfall-screen-") as directory:
                taken = Path(directory, "screen.png")
                self.means.hypervisor.screenshot(name, taken)
                replace_file(path, taken.read_bytes())
        except (NotfallError, OSError) as error:
            log.warning("no picture of the rehearsal: %s", error)
            return False
        return True

    def _keep_once(
        self,
        ctx: JobContext,
        outcome: Outcome,
        error: NotfallError,
        evidence: Evidence = Evidence(),
    ) -> Rehearsal:
        """What is known of it; where nothing is yet, that it came to this."""
        known = self.means.catalogue.rehearsals.find(ctx.job.id)
        return known or self._keep(ctx, outcome, error, evidence)

    def _keep(
        self, ctx: JobContext, outcome: Outcome, error: NotfallError | None, evidence: Evidence
    ) -> Rehearsal:
        """With its version first: what is shown of a rehearsal is there for choosing, too."""
        if evidence.tells_something:
            store = self.means.pool.primary(ctx.primary)
            store.proofs.keep(ctx.notes["version"], evidence)
            lock = self.preparing[ctx.primary]
            if lock.acquire(blocking=False):  # else whoever prepares does it
                try:
                    store.trim_prepared({ctx.notes["version"], pinned_clean(store)})
                finally:
                    lock.release()
        one = Rehearsal(
            id=ctx.job.id,
            primary=ctx.primary,
            version=ctx.notes.get("version", ""),
            who=ctx.job.who,
            began_at=datetime.fromisoformat(ctx.notes["began"]),
            outcome=outcome,
            error=error.to_json() if error else None,
            answered_s=evidence.start_s,
            ports=evidence.ports,
            silent=evidence.silent,
            picture=evidence.picture,
            evidence=evidence.to_json() if evidence != Evidence() else None,
        )
        self.means.catalogue.rehearsals.keep(one)
        if outcome is not Outcome.BROKEN_OFF:
            told = {"id": one.id, "at": one.began_at.isoformat(), "outcome": outcome}
            forgotten = {SERIES: None} if outcome is Outcome.PASSED else {}
            self.means.catalogue.primaries.note(ctx.primary, **{NOTE: told}, **forgotten)
        return one

    def _end(self, ctx: JobContext, one: Rehearsal) -> dict[str, Any]:
        """It is over, and everything of it gone; a rehearsal that failed is a job that failed."""
        self.means.catalogue.rehearsals.end(one)
        why = NotfallError.from_json(one.error, 409) if one.error else None
        told = {
            "outcome": one.outcome,
            "version": one.version,
            "answered_s": one.answered_s,
            "ports": list(one.ports),
            "silent_ports": list(one.silent),
        }
        leave_rehearsal(self.means, self.move, ctx.primary, why.cause if why else "", told)
        if why is None:
            return told
        raise why if one.outcome is Outcome.FAILED else Cancelled


def leave_rehearsal(
    means: Means, move: Move, primary: str, why: str, details: Mapping[str, Any] | None = None
) -> None:
    """Back to normal, unless an outage or an activation has taken over meanwhile."""
    try:
        move(primary, Event.REHEARSAL_ENDED, "server", why, details)
    except NotfallError as error:
        if error.code not in ("not-in-this-state", "state-changed"):
            raise
        means.catalogue.journal.write(primary, Event.REHEARSAL_ENDED, "server", why, details)


def end_rehearsals(means: Means, runner: JobRunner, primary: str, everybody: bool = False) -> None:
    """Have rehearsals ended now: that of ``primary`` is over when this returns.

    ``everybody``: those of the others, too; their memory may be needed.
    """
    for job in means.catalogue.jobs.unfinished(kind="rehearse"):
        if job.primary != primary and not everybody:
            continue
        with suppress(NotfallError):  # it is just over
            runner.cancel(job.id, "server")
        if job.primary == primary:
            runner.wait(job.id, ENDS_WITHIN_S)


def clear_rehearsal(means: Means, primary: str) -> None:
    """Remove the machine that a crashed predecessor left; its clones go when the pool is swept."""
    means.hypervisor.undefine(rehearsal_name(primary))


def clear_rehearsals(means: Means) -> None:
    """At the start of the server, before any job."""
    remove_cables()
    for row in means.catalogue.primaries.all():
        try:
            clear_rehearsal(means, row.uuid)
        except NotfallError as error:
            log.warning("%s: %s", row.name, error)


def picture_path(means: Means, primary: str, rehearsal: str) -> Path:
    """Where the picture of a rehearsal's screen lies."""
    return means.settings.data_dir / "evidence" / primary / f"{rehearsal}.png"


def _broken_off(why: str) -> NotfallError:
    causes = {
        "ended": "It was ended before anything was known.",
        "restart": "The emergency server was restarted meanwhile.",
    }
    return NotfallError(f"rehearsal-{why}", causes[why], "Begin it again.", retry=True, status=409)


def _now() -> datetime:
    return datetime.now(timezone.utc)
