"""The planned handover of a living primary to its stand-in, without losing what was acknowledged.

Rounds of ordinary replications bring the copy close. Then the agent is given the last order: it
shuts down what works there, reads the last changes while everything is frozen, and says farewell
before it switches its machine off (the agent's side, and why nothing is lost: ``agent/handover``).
What it says is written down before it is answered, and is the point of no return: before it every
failure leaves the original at work, after it the original is off and whole. Then the last version
is adapted, the guard must find the original silent, and an ordinary activation starts the stand-in.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from notfallserver.server.cycle.agentless import refuse_agentless
from notfallserver.server.cycle.handover.plan import (
    CAN,
    HAND_OVER,
    LEFT,
    Downtime,
    Left,
    near_enough,
    predict,
    read_left,
)
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.moves import Move, because
from notfallserver.server.cycle.normal.line import LINE, read_line
from notfallserver.server.cycle.normal.readiness import Finding, Severity
from notfallserver.server.cycle.normal.replication import follow_replication
from notfallserver.server.cycle.outage.guard import Alive, Verdict
from notfallserver.server.cycle.refusals import refuse_importing
from notfallserver.server.cycle.rehearsals import end_rehearsals
from notfallserver.server.cycle.runner import Cancelled, JobContext, JobRunner
from notfallserver.server.cycle.seeds import refuse_before_seed
from notfallserver.server.cycle.standin import standin_memory
from notfallserver.server.cycle.state import Event, State, next_state
from notfallserver.server.cycle.work import Work
from notfallserver.server.fence.device import read_device
from notfallserver.server.host.memory import free_memory
from notfallserver.server.pool.version import Version
from notfallserver.server.records.jobs import Job
from notfallserver.server.records.primaries import Primary
from notfallserver.server.records.rehearsals import Outcome
from notfallserver.wire.errors import NotfallError

HEARD = timedelta(seconds=30)
"""An original that was not heard for so long can't be told to hand over."""
FAREWELL_S = 120.0
"""So long after the last version its agent may take to say farewell."""
OFF_S = 240.0
"""So long an original that said farewell may show signs of life."""


@dataclass(frozen=True)
class HandOver:
    """``examine`` asks the guard about a primary, ``ready`` what stands in a stand-in's way."""

    means: Means
    runner: JobRunner
    work: Work
    move: Move
    examine: Callable[[str], Verdict]
    ready: Callable[[str], Sequence[Finding]]
    _deciding: threading.Lock = field(default_factory=threading.Lock)
    """Held while it is decided whether an original that says farewell may go."""

    def register(self) -> None:
        self.runner.register("hand_over", self.hand_over, {"recover", "switch_back", "undo"})

    # -- before ----------------------------------------------------------------------------------

    def refuse(self, row: Primary) -> None:
        """Raise where a handover can't begin now, or its stand-in could not work. Asks the guard,
        which takes a few seconds."""
        next_state(State(row.state), Event.HAND_OVER)
        refuse_agentless(row)
        if HAND_OVER not in row.notes.get(CAN, ()):
            raise NotfallError(
                "hand-over-unknown",
                f"The agent of {row.name} can't shut its machine down in order: it is too old, or "
                "the machine does not run systemd, or is a container.",
                "Update the agent. Else shut the machine down yourself and start the stand-in.",
                status=409,
            )
        heard = row.last_seen and datetime.now(timezone.utc) - row.last_seen < HEARD
        if not heard or row.agent_role != "primary":
            raise NotfallError(
                "original-silent",
                f"The agent of {row.name} is silent, so it can't be told to hand over.",
                "If the machine is down, start the stand-in ('notfall activate').",
                status=409,
            )
        refuse_before_seed(row)
        refuse_importing(self.means, row)
        if self.means.pool.primary(row.uuid).newest_prepared() is None:
            raise NotfallError(
                "hand-over-not-prepared",
                f"No version of {row.name} is prepared yet.",
                "Wait until 'notfall versions' says that one is.",
                retry=True,
                status=409,
            )
        self.refuse_unready(row)
        self._refuse_unguarded(row)

    def refuse_unready(self, row: Primary) -> None:
        """Raise where this server has not what its stand-in needs."""
        blockers = [one.key for one in self.ready(row.uuid) if one.severity is Severity.BLOCKER]
        if blockers:
            raise NotfallError(
                "hand-over-blocked",
                f"A stand-in of {row.name} could not work now: {', '.join(blockers)}.",
                "See what stands in its way with 'notfall primary show', and mend that first.",
                status=409,
            )
        need = standin_memory(self.means.settings, row.machine) if row.machine else 0
        if (free := free_memory()) < need:
            raise NotfallError(
                "hand-over-no-memory",
                f"The stand-in takes {need >> 20} MiB of memory, and {free >> 20} MiB are free.",
                "End other virtual machines on the emergency server, or give it more memory.",
                retry=True,
                status=409,
            )

    def _refuse_unguarded(self, row: Primary) -> None:
        """The guard must be able to tell afterwards that the original is off; a fence device can
        as well."""
        if read_device(row.notes) is not None:
            return
        evidence = [one for one in self.examine(row.uuid).evidence if one.kind != "heartbeat"]
        hears = any(one.about == "witness" and one.alive is Alive.YES for one in evidence)
        asked = {one.subject: False for one in evidence if one.about == "primary"}
        asked |= {one.subject: True for one in evidence if one.alive is not Alive.UNKNOWN}
        if not hears or not asked or not all(asked.values()):
            raise NotfallError(
                "hand-over-unguarded",
                "It could not be told afterwards whether the original is off: no other machine "
                "answers this server, or an address of the original can't be asked.",
                "Check the server's network, or name an address that always answers ping under "
                "[guard] witnesses in the settings.",
                status=409,
            )

    def foresee(self, row: Primary) -> Downtime:
        """How long nobody could work."""
        line = read_line(row.notes.get(LINE))
        jobs = self.means.catalogue.jobs.newest(row.uuid, "prepare", limit=10)
        took = [
            (one.finished_at - one.started_at).total_seconds()
            for one in jobs
            if one.state == "done" and one.finished_at and one.started_at
        ]
        boots = [
            one.answered_s
            for one in self.means.catalogue.rehearsals.of(row.uuid, limit=10)
            if one.outcome is Outcome.PASSED and one.answered_s is not None
        ]
        return predict(
            line.rate if line else 0.0,
            took[0] if took else None,
            boots[0] if boots else None,
        )

    def begin(self, row: Primary, who: str, why: str = "") -> Job:
        """Order it; raises where it can't be."""
        self.refuse(row)
        with self._deciding:
            self.means.catalogue.primaries.note(row.uuid, **{LEFT: None})
            self.move(row.uuid, Event.HAND_OVER, who, why)
            try:
                return self.runner.submit("hand_over", row.uuid, {}, who)
            except NotfallError as error:
                self.move(row.uuid, Event.HANDOVER_FAILED, "server", *because(error))
                raise

    def refuse_under_way(self, row: Primary) -> None:
        """Raise while it is being handed over."""
        if row.state == State.HANDING_OVER:
            raise NotfallError(
                "handover-under-way",
                f"{row.name} is being handed over to its stand-in.",
                "Wait for its end, or take it back: notfall undo",
                status=409,
            )

    def cancel(self, row: Primary, who: str) -> Job | None:
        """Take back one that is under way; None where there is none."""
        with self._deciding:
            for job in self.means.catalogue.jobs.unfinished(row.uuid, "hand_over"):
                if row.state != State.HANDING_OVER:
                    return None
                if self._left(row.uuid, job.id) is not None:
                    raise NotfallError(
                        "handover-past-return",
                        f"{row.name} has shut itself down already.",
                        "Wait until its stand-in works. To go back then: give the stand-in up "
                        "('notfall undo') and switch the original on.",
                        status=409,
                    )
                return self.runner.cancel(job.id, who)
        return None

    # -- the agent's last message ----------------------------------------------------------------

    def farewell(self, primary: str, version: str, boot: str) -> None:
        """The original ends now, and ``version`` has all of it. Refused when it is not wanted any
        more: then it works on. Told again, the answer is the same."""
        with self._deciding:
            row = self.means.catalogue.primaries.find(primary)
            known = read_left(row.notes)
            if known is not None and (known.version, known.boot) == (version, boot):
                return
            run = self.means.runs.of_primary(primary)
            sealed = run.version.stamp if run and run.last and run.version else ""
            jobs = self.means.catalogue.jobs.unfinished(primary, "hand_over")
            wanted = [one for one in jobs if not one.cancel_requested]
            if row.state != State.HANDING_OVER or not wanted or not version or sealed != version:
                raise NotfallError(
                    "handover-over",
                    "The handover was given up meanwhile.",
                    "The original works on; hand it over again.",
                    status=409,
                )
            left = Left(version, boot, wanted[0].id, datetime.now(timezone.utc).isoformat())
            self.means.catalogue.primaries.note(primary, **{LEFT: left.to_json()})
            self.means.catalogue.journal.write(
                primary, "left", "agent", details={"version": version}
            )

    def _left(self, primary: str, job: str) -> Left | None:
        """What the original said when it went, if that was for this job."""
        left = read_left(self.means.catalogue.primaries.find(primary).notes)
        return left if left is not None and left.job == job else None

    # -- the job ---------------------------------------------------------------------------------

    def hand_over(self, ctx: JobContext) -> dict[str, Any]:
        primary = ctx.primary
        if "activation" in ctx.notes:
            return self._follow(ctx)
        if self.means.catalogue.primaries.find(primary).state != State.HANDING_OVER:
            return {"state": "over before the server was restarted"}
        try:
            if self._left(primary, ctx.job.id) is None:
                self._come_close(ctx)
                self._take_last(ctx)
            self._start(ctx)
        except (Exception, Cancelled) as error:
            self._give_up(ctx, error)
            raise
        return self._follow(ctx)

    def _give_up(self, ctx: JobContext, error: BaseException) -> None:
        """The original works on, or is off and whole."""
        with self._deciding:
            if self.means.catalogue.primaries.find(ctx.primary).state != State.HANDING_OVER:
                return
            gone = self._left(ctx.primary, ctx.job.id) is not None
            event = Event.OUTAGE_SEEN if gone else Event.HANDOVER_FAILED
            self.move(ctx.primary, event, ctx.job.who, *because(error))

    def _come_close(self, ctx: JobContext) -> None:
        number, before = 0, 0
        while True:
            number += 1
            for other in self.means.catalogue.jobs.unfinished(ctx.primary, "replicate"):
                while not self.runner.wait(other.id, 0).finished:
                    ctx.progress("waiting for other work")
                    ctx.sleep(0.5)
            version = self.replicate(ctx, last=False)
            self.work.took_version(ctx.primary, version.stamp)
            ctx.note(rounds=number)
            changed = version.manifest.bytes_changed
            if near_enough(number, changed, before):
                return
            before = changed

    def replicate(self, ctx: JobContext, last: bool) -> Version:
        """A version of the original; after the ``last`` one it goes."""
        return follow_replication(ctx, ctx.primary, self.means.runs, self.means.orders, last)

    def _take_last(self, ctx: JobContext) -> None:
        began = time.time()
        version = self.replicate(ctx, last=True)
        run = self.means.runs.of_primary(ctx.primary)
        ctx.note(down_since=run.down_since if run and run.down_since else began)
        self.work.took_version(ctx.primary, version.stamp)
        until = time.monotonic() + FAREWELL_S
        while self._left(ctx.primary, ctx.job.id) is None:
            ctx.progress("waiting for the original's end")
            if time.monotonic() > until or (run is not None and run.idle):
                raise NotfallError(
                    "no-farewell",
                    "The original did not say that it ends; it works on, or lost its line.",
                    "See its agent's log: journalctl -u notfall-agent",
                )
            ctx.sleep(0.2)

    def _start(self, ctx: JobContext) -> None:
        """From an original that is going to the order to start its stand-in."""
        primary = ctx.primary
        left = self._left(primary, ctx.job.id)
        if left is None:
            raise NotfallError("no-farewell", "The original did not say that it ends.")
        store = self.means.pool.primary(primary)
        prepared = self.work.prepared(ctx, store, store.need_best())
        if prepared.version != left.version:
            raise NotfallError(
                "version-damaged",
                f"The version {left.version} that the handover made is damaged.",
                "Switch the original on again: nothing is lost on it.",
                status=409,
            )
        ctx.note(adapted=time.time())
        verdict = self._await_off(ctx)
        with self._deciding:
            asked = datetime.now(timezone.utc).isoformat()
            who = ctx.job.who
            self.move(primary, Event.ACTIVATE, who, "", verdict.to_json())
            end_rehearsals(self.means, self.runner, primary, everybody=True)
            parameters = {"asked_at": asked, "overruled": "", "version": left.version}
            try:
                job = self.runner.submit("activate", primary, parameters, who)
            except NotfallError as error:
                self.move(primary, Event.ACTIVATION_FAILED, "server", *because(error))
                raise
            ctx.note(activation=job.id)

    def _await_off(self, ctx: JobContext) -> Verdict:
        until = time.monotonic() + OFF_S
        while True:
            ctx.progress("waiting until the original is off")
            verdict = self.examine(ctx.primary)
            if verdict.allowed:
                return verdict
            if time.monotonic() > until:
                verdict.require()
            ctx.sleep(1)

    def _follow(self, ctx: JobContext) -> dict[str, Any]:
        """The activation, to its end."""
        activation = str(ctx.notes["activation"])
        while not (job := self.runner.wait(activation, 0)).finished:
            ctx.progress(job.progress.phase, job.progress.done, job.progress.total)
            ctx.sleep(0.5)
        if job.state != "done":
            raise NotfallError.from_json(job.error or {"code": "job-cancelled"}, 500)
        ended = job.finished_at.timestamp() if job.finished_at else time.time()
        return {
            "version": job.result.get("version", ""),
            "rounds": ctx.notes.get("rounds", 0),
            "downtime_s": round(ended - float(ctx.notes.get("down_since", ended)), 1),
            "ports": job.result.get("ports", []),
            "silent_ports": job.result.get("silent_ports", []),
        }
