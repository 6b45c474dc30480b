"""The job that starts several stand-ins in the plan's order.

It only orders activations, each of which asks the guard and is a job of its own: nothing is started
that a person could not start by hand, and what was started goes on when this job ends. What became
of each is in the job's notes (:data:`STANDS`) as soon as it is known. After a restart of the server
the job goes on from there; an activation that was ordered just before is found by its own job.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.plans.capacity import Capacity
from notfallserver.server.cycle.plans.order import Step
from notfallserver.server.cycle.runner import Cancelled, JobContext, JobRunner
from notfallserver.server.cycle.state import WITH_STANDIN, State
from notfallserver.server.records.jobs import Job
from notfallserver.server.records.start_place import Begins, IfFails, Place
from notfallserver.wire.errors import NotfallError

KIND = "start_plan"
STANDS = "stands"
"""In the job's notes: by primary what became of it."""
_TURNS = "turns"
"""In the job's notes: by a step's number when it began."""
AT_ONCE = 8
"""So many are asked for and ordered at the same time."""
LOOK_S = 0.5


class Outcome(StrEnum):
    """What became of one server."""

    STARTING = "starting"
    WORKS = "works"
    SILENT = "silent"  # its stand-in runs, but not all of its services answer
    ALIVE = "alive"  # the original lives, so there was nothing to start
    REFUSED = "refused"  # the guard could not allow it
    NO_ROOM = "no-room"
    FAILED = "failed"
    LEFT_OUT = "left-out"  # the plan ended before its turn


GOOD = frozenset({Outcome.WORKS, Outcome.ALIVE})
STARTED = frozenset({Outcome.STARTING, Outcome.WORKS, Outcome.SILENT})
OVER = frozenset(Outcome) - {Outcome.STARTING}


@dataclass(frozen=True)
class Stand:
    """How one server stands; ``job`` is its activation's. ``error`` (see ``wire.errors``) says why
    it does not work."""

    outcome: Outcome
    job: str = ""
    error: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        return {"outcome": self.outcome, "job": self.job, "error": self.error}


def read_stands(notes: Mapping[str, Any]) -> dict[str, Stand]:
    """By primary; those whose turn has not come are missing."""
    return {
        uuid: Stand(Outcome(one["outcome"]), one["job"], one["error"])
        for uuid, one in notes.get(STANDS, {}).items()
    }


def steps_to_json(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """For the job's parameters: a plan that is changed meanwhile changes no run."""
    return [{**vars(one), "places": [vars(place) for place in one.places]} for one in steps]


def read_steps(parameters: Mapping[str, Any]) -> list[Step]:
    return [
        Step(
            Begins(one["begins"]),
            one["delay_s"],
            one["limit_s"],
            tuple(_read_place(place) for place in one["places"]),
        )
        for one in parameters["steps"]
    ]


def _read_place(told: Mapping[str, Any]) -> Place:
    kinds = {"begins": Begins(told["begins"]), "if_fails": IfFails(told["if_fails"])}
    return Place(**{**told, **kinds})


@dataclass(frozen=True)
class Run:
    """The job function. ``activate`` orders a start in somebody's name; ``capacity`` tells which of
    some primaries find room now."""

    means: Means
    runner: JobRunner
    activate: Callable[[str, str], Job]
    capacity: Callable[[Sequence[str]], Capacity]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def register(self) -> None:
        self.runner.register(KIND, self.run)

    def run(self, ctx: JobContext) -> dict[str, Any]:
        steps = read_steps(ctx.parameters)
        try:
            for number in range(len(steps)):
                self._await_turn(ctx, steps, number)
                self._start(ctx, [one.primary for one in steps[number].places])
            while self._starting(ctx):
                self._tell(ctx, "waiting until they work")
        except Cancelled:
            self._leave_out(ctx, steps)
            raise
        return self._result(ctx)

    # -- whose turn it is ------------------------------------------------------------------------

    def _await_turn(self, ctx: JobContext, steps: Sequence[Step], number: int) -> None:
        """Return when the step may begin; raise when one before it was not to fail, and did."""
        turns: dict[str, str] = ctx.notes.get(_TURNS, {})
        if str(number) in turns:
            return  # it had begun before the server was restarted
        late: list[Place] = []
        if number and self._has_started(ctx, steps[number - 1]):
            before, step = steps[number - 1], steps[number]
            moment = datetime.fromisoformat(turns[str(number - 1)])
            if step.begins is Begins.WORKS:
                until = moment + timedelta(seconds=step.limit_s)
                late = self._await_works(ctx, before, until)
                moment = _now()
            while _now() < moment + timedelta(seconds=step.delay_s):
                self._tell(ctx, "waiting for the next one's turn")
        self._stop_after_failure(ctx, steps, number, late)
        ctx.note(**{_TURNS: {**turns, str(number): _now().isoformat()}})

    def _has_started(self, ctx: JobContext, step: Step) -> bool:
        """Else there is nothing to wait for."""
        stands = read_stands(ctx.notes)
        return any(stands[one.primary].outcome in STARTED for one in step.places)

    def _await_works(self, ctx: JobContext, before: Step, until: datetime) -> list[Place]:
        """Those that are still not up at the end of their time."""
        mine = [one.primary for one in before.places]
        while starting := [one for one in self._starting(ctx) if one in mine]:
            if _now() >= until:
                return [one for one in before.places if one.primary in starting]
            self._tell(ctx, "waiting until the one before works")
        return []

    def _stop_after_failure(
        self, ctx: JobContext, steps: Sequence[Step], number: int, late: Sequence[Place]
    ) -> None:
        self._starting(ctx)
        stands = read_stands(ctx.notes)
        earlier = [place for step in steps[:number] for place in step.places]
        for place in earlier:
            stand = stands[place.primary]
            failed = stand.outcome not in (*GOOD, Outcome.STARTING) or place in late
            if failed and place.if_fails is IfFails.STOP:
                self._leave_out(ctx, steps)
                name = self.means.catalogue.primaries.find(place.primary).name
                raise NotfallError(
                    "start-plan-stopped",
                    f"{name} does not work, and nothing may start after it then.",
                    "See what is the matter with it; then start the others.",
                    status=409,
                )

    # -- starting --------------------------------------------------------------------------------

    def _start(self, ctx: JobContext, primaries: Sequence[str]) -> None:
        """Order all of a step that find room. One that the guard refuses leaves its room to one
        that found none."""
        known = read_stands(ctx.notes)
        waiting = [one for one in primaries if one not in known]
        while waiting:
            ctx.check()
            capacity = self.capacity(waiting)
            without = {one.primary: one for one in capacity.rest}
            now = [one for one in waiting if one not in without]
            if not now:
                error = _no_room(capacity)
                for uuid in waiting:
                    self._keep(ctx, uuid, Stand(Outcome.NO_ROOM, error=error.to_json()))
                return
            self._tell(ctx, "asking the network", wait=False)
            with ThreadPoolExecutor(min(AT_ONCE, len(now)), "start-plan") as threads:
                list(threads.map(lambda uuid: self._order(ctx, uuid), now))
            waiting = [one for one in waiting if one in without]

    def _order(self, ctx: JobContext, uuid: str) -> None:
        if self._adopt(ctx, uuid):
            return
        try:
            job = self.activate(uuid, ctx.job.who)
        except NotfallError as error:
            self._keep(ctx, uuid, _failure(error.to_json()))
        else:
            self._keep(ctx, uuid, Stand(Outcome.STARTING, job.id))

    def _adopt(self, ctx: JobContext, uuid: str) -> bool:
        """Whether it needs no order: it has a stand-in, or had one ordered since the run began."""
        jobs, began = self.means.catalogue.jobs, ctx.job.created_at
        for job in jobs.newest(uuid, "activate", limit=1):
            if job.created_at >= began or not job.finished:
                self._keep(ctx, uuid, Stand(Outcome.STARTING, job.id))
                return True
        if self.means.catalogue.primaries.find(uuid).state in WITH_STANDIN:
            self._keep(ctx, uuid, Stand(Outcome.STARTING))
            return True
        return False

    # -- what became of it -----------------------------------------------------------------------

    def _starting(self, ctx: JobContext) -> list[str]:
        """Those that are still starting; what became of the others is written down."""
        starting = []
        for uuid, stand in read_stands(ctx.notes).items():
            if stand.outcome is Outcome.STARTING:
                found = self.look(uuid, stand)
                if found.outcome is Outcome.STARTING:
                    starting.append(uuid)
                else:
                    self._keep(ctx, uuid, found)
        return starting

    def look(self, uuid: str, stand: Stand) -> Stand:
        """How one that was starting stands by now."""
        if stand.outcome is not Outcome.STARTING:
            return stand
        if not stand.job:  # it had a stand-in already, or the server ended before its job began
            state = State(self.means.catalogue.primaries.find(uuid).state)
            if state is State.ACTIVATING:
                return stand
            return Stand(Outcome.WORKS if state in WITH_STANDIN else Outcome.FAILED)
        job = self.means.catalogue.jobs.find(stand.job)
        if not job.finished:
            return stand
        if job.state == "done":
            silent = bool(job.result.get("silent_ports"))
            return Stand(Outcome.SILENT if silent else Outcome.WORKS, job.id)
        return _failure(job.error, job.id)

    def _leave_out(self, ctx: JobContext, steps: Sequence[Step]) -> None:
        self._starting(ctx)
        known = read_stands(ctx.notes)
        for place in (place for step in steps for place in step.places):
            if place.primary not in known:
                self._keep(ctx, place.primary, Stand(Outcome.LEFT_OUT))

    def _keep(self, ctx: JobContext, uuid: str, stand: Stand) -> None:
        with self.lock:
            ctx.note(**{STANDS: {**ctx.notes.get(STANDS, {}), uuid: stand.to_json()}})

    def _tell(self, ctx: JobContext, phase: str, wait: bool = True) -> None:
        stands = read_stands(ctx.notes).values()
        over = sum(one.outcome in OVER for one in stands)
        whole = sum(len(one["places"]) for one in ctx.parameters["steps"])
        ctx.progress(f"{phase} ({over}/{whole})", over, whole)
        if wait:
            ctx.sleep(LOOK_S)

    def _result(self, ctx: JobContext) -> dict[str, Any]:
        """By outcome the names, in the plan's order."""
        names = self.means.catalogue.primaries.names()
        told: dict[str, list[str]] = {}
        for uuid, stand in read_stands(ctx.notes).items():
            told.setdefault(stand.outcome, []).append(names.get(uuid, uuid))
        return {key: ", ".join(value) for key, value in told.items()}


def _failure(error: Mapping[str, Any] | None, job: str = "") -> Stand:
    """``error`` is None where somebody stopped it."""
    told = dict(error) if error else _stopped().to_json()
    code = str(told.get("code", ""))
    if code == "guard-alive":
        return Stand(Outcome.ALIVE, job, told)
    return Stand(Outcome.REFUSED if code.startswith("guard-") else Outcome.FAILED, job, told)


def _stopped() -> NotfallError:
    return NotfallError("job-cancelled", "Somebody stopped it.", "Start it on its own page.")


def _no_room(capacity: Capacity) -> NotfallError:
    if capacity.missing_memory:
        return NotfallError(
            "no-room",
            f"{capacity.missing_memory >> 20} MiB of memory are missing for it.",
            "Give its stand-in less memory in the start plan, or shut another stand-in down.",
            status=409,
        )
    return NotfallError(
        "no-room",
        f"{capacity.missing_disk >> 20} MiB of space are missing in the pool for it.",
        "Remove servers that need no protection, or give the pool more space.",
        status=409,
    )


def _now() -> datetime:
    return datetime.now(timezone.utc)
