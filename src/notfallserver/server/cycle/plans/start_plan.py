"""What people do with the start plan: look at it, change it, ask the guard about all that are down,
and have them started."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.outage.guard import Verdict
from notfallserver.server.cycle.plans.capacity import Capacity
from notfallserver.server.cycle.plans.order import Wish, changed, moved, ordered, steps_of
from notfallserver.server.cycle.plans.room import ReadMemory, capacity_of_all, read_memory
from notfallserver.server.cycle.plans.run import (
    AT_ONCE,
    KIND,
    Run,
    Stand,
    read_stands,
    read_steps,
    steps_to_json,
)
from notfallserver.server.cycle.runner import JobRunner
from notfallserver.server.cycle.state import State
from notfallserver.server.records.jobs import Job
from notfallserver.server.records.primaries import Primary
from notfallserver.server.records.start_place import Place
from notfallserver.wire.errors import NotfallError


@dataclass(frozen=True)
class Entry:
    """A primary and its place in the plan; ``step`` counts from 1."""

    row: Primary
    place: Place
    step: int


class StartPlans:
    """``activate`` orders a start in somebody's name, ``examine`` asks the guard about one."""

    def __init__(
        self,
        means: Means,
        runner: JobRunner,
        activate: Callable[[str, str], Job],
        examine: Callable[[str], Verdict],
        read: ReadMemory = read_memory,
    ) -> None:
        self._means = means
        self._runner = runner
        self._examine = examine
        self._read = read
        self._run = Run(means, runner, activate, self.capacity)

    def register(self) -> None:
        self._run.register()

    # -- looking ---------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """All primaries in the plan's order."""
        rows = {one.uuid: one for one in self._means.catalogue.primaries.all()}
        return [
            Entry(rows[place.primary], place, number)
            for number, step in enumerate(steps_of(self._means.catalogue.start_plan.all()), 1)
            for place in step.places
            if place.primary in rows
        ]

    def down(self) -> list[str]:
        """Those that are down and have a copy, in the plan's order."""
        return [
            one.row.uuid
            for one in self.entries()
            if one.row.state == State.OUTAGE and one.row.newest_version
        ]

    def capacity(self, primaries: Sequence[str] | None = None) -> Capacity:
        """Which of them, or of all, find room beside the stand-ins that exist."""
        return capacity_of_all(self._means, self._read, primaries)

    def examine(self, primaries: Sequence[str]) -> dict[str, Verdict]:
        """What the guard says of each; takes a few seconds, changes nothing."""
        if not primaries:
            return {}
        with ThreadPoolExecutor(min(AT_ONCE, len(primaries)), "start-plan") as threads:
            return dict(zip(primaries, threads.map(self._examine, primaries), strict=True))

    def last_run(self) -> Job | None:
        """The run under way, or the last one."""
        return next(iter(self._means.catalogue.jobs.newest(kind=KIND, limit=1)), None)

    def stands(self, job: Job) -> dict[str, Stand | None]:
        """How each server of a run stands, in its order; None: its turn has not come."""
        known = {
            uuid: self._run.look(uuid, stand) for uuid, stand in read_stands(job.notes).items()
        }
        chosen = [one.primary for step in read_steps(job.parameters) for one in step.places]
        return {uuid: known.get(uuid) for uuid in chosen}

    # -- changing --------------------------------------------------------------------------------

    def order(self, groups: Sequence[Sequence[str]], who: str) -> None:
        """These first, each group together; the others follow as they were."""
        self._means.catalogue.start_plan.change(lambda places: ordered(places, groups), who)

    def move(self, primary: str, by: int, who: str) -> None:
        self._means.catalogue.start_plan.change(lambda places: moved(places, primary, by), who)

    def change(self, primary: str, wish: Wish, who: str) -> None:
        self._means.catalogue.start_plan.change(lambda places: changed(places, primary, wish), who)

    # -- starting --------------------------------------------------------------------------------

    def start(self, primaries: Sequence[str] | None, who: str) -> Job:
        """Start these, or all that are down, in the plan's order. The guard is asked about each,
        and nothing here overrules it."""
        wanted = set(self.down() if primaries is None else primaries)
        if not wanted:
            raise NotfallError(
                "nothing-to-start",
                "No server was chosen, or none is down.",
                "See which are down: notfall plan show",
                status=409,
            )
        for job in self._means.catalogue.jobs.unfinished(kind=KIND):
            raise NotfallError(
                "start-plan-runs",
                f"Servers are being started already (job {job.id}).",
                "Wait for its end, or stop it: what has started goes on.",
                status=409,
            )
        steps = steps_of(self._means.catalogue.start_plan.all(), wanted)
        names = self._means.catalogue.primaries.names()
        order = [names[one.primary] for step in steps for one in step.places]
        job = self._runner.submit(KIND, None, {"steps": steps_to_json(steps)}, who)
        details = {"job": job.id, "order": order}
        self._means.catalogue.journal.write(None, "start-plan-begun", who, details=details)
        return job
