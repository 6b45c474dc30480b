"""The job of a handover and the farewell, with the real rules in a world of paper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from notfall_lab.dryrun.conductor import PaperConductor
from notfall_lab.dryrun.house import DryHouse, dry_house
from notfall_lab.dryrun.paper import Taken, write_version
from notfall_lab.dryrun.work import PaperHandOver
from notfall_lab.patience import until
from notfallserver.server.cycle.doors import AgentDoor
from notfallserver.server.cycle.handover.plan import LEFT, read_left
from notfallserver.server.cycle.normal.runs import Run
from notfallserver.server.cycle.runner import JobContext, JobRunner
from notfallserver.server.cycle.state import Event, State
from notfallserver.server.pool.incoming import Incoming
from notfallserver.server.pool.version import Version
from notfallserver.wire.errors import NotfallError

SPEED = 50


@dataclass(frozen=True)
class Watched(PaperHandOver):
    """The agent says farewell when the test says so."""

    unready: list[str] = field(default_factory=list)

    def replicate(self, ctx: JobContext, last: bool) -> Version:
        store = self.means.pool.primary(ctx.primary)
        machine = store.need_newest().manifest.machine
        version = write_version(store, "shop", machine, Taken(changed=1 << 20))
        if last:
            run = Run("r", ctx.primary, "shop", machine, cast("Incoming", None), last=True)
            run.version = version
            self.means.runs._runs[ctx.primary] = run
        return version


class Scene:
    def __init__(self, dry: DryHouse) -> None:
        self.dry = dry
        self.catalogue = dry.house.catalogue
        self.runner = dry.house.runner
        self.conductor = dry.conductor
        self.uuid = dry.add("shop", "shop")
        self.watch()
        self.poll("b1")

    def watch(self) -> None:
        paper = cast("PaperHandOver", self.conductor.handovers)
        over = Watched(
            self.dry.means,
            self.runner,
            paper.work,
            paper.move,
            self.conductor.examine,
            self.conductor.readiness,
            paper=paper.paper,
        )
        over.register()
        self.conductor.handovers = over

    def restart(self) -> None:
        """The server is killed and comes back."""
        self.runner.stop()
        self.dry.means.runs._runs.clear()
        self.runner = JobRunner(self.catalogue.jobs, self.catalogue.journal)
        self.conductor = PaperConductor(self.dry.means, self.runner, self.dry.world)
        self.watch()
        self.runner.resume_unfinished()
        self.conductor.mend()

    def poll(self, boot: str) -> None:
        body = {
            "role": "primary",
            "boot_id": boot,
            "agent": "1",
            "can": ["hand-over"],
            "busy": True,
        }
        AgentDoor(self.dry.means, self.conductor).poll(self.uuid, body)

    def begin(self) -> str:
        row = self.catalogue.primaries.find("shop")
        return self.conductor.handovers.begin(row, "anna").id

    def await_last(self, job: str) -> str:
        """The last version is made, and its farewell is waited for."""
        until(lambda: self.dry.means.runs.of_primary(self.uuid) is not None)
        until(lambda: self.phase(job) == "waiting for the original's end")
        return self.dry.means.pool.primary(self.uuid).need_newest().stamp

    def farewell(self, version: str) -> str:
        """Empty, or why it was refused."""
        body = {"version": version, "boot_id": "b1"}
        try:
            AgentDoor(self.dry.means, self.conductor).farewell(self.uuid, body)
        except NotfallError as error:
            return error.code
        return ""

    def phase(self, job: str) -> str:
        return self.catalogue.jobs.find(job).progress.phase

    def ended(self, job: str) -> Any:
        until(lambda: self.catalogue.jobs.find(job).finished)
        return self.catalogue.jobs.find(job)

    @property
    def state(self) -> str:
        return self.catalogue.primaries.find("shop").state

    @property
    def notes(self) -> dict[str, Any]:
        return self.catalogue.primaries.find("shop").notes

    def events(self) -> list[str]:
        entries = self.catalogue.journal.entries(self.uuid, 30)
        return [one.event for one in reversed(entries)]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with dry_house(tmp_path / "house", 1, SPEED) as dry:
        scene = Scene(dry)
        yield scene
        dry.world.ended.set()
        scene.runner.stop()


def test_nothing_starts_before_the_farewell_nor_while_it_still_answers(scene: Scene) -> None:
    job = scene.begin()
    stamp = scene.await_last(job)
    assert scene.farewell("20200101T000000.000Z") == "handover-over"
    assert scene.state == State.HANDING_OVER
    assert scene.farewell(stamp) == "" == scene.farewell(stamp)
    until(lambda: scene.phase(job) == "waiting until the original is off")
    with pytest.raises(NotfallError) as late:
        scene.conductor.undo(scene.uuid, "anna")
    assert late.value.code == "handover-past-return"
    with pytest.raises(NotfallError) as other:
        scene.conductor.activate(scene.uuid, "anna")
    assert other.value.code == "handover-under-way"
    assert scene.state == State.HANDING_OVER
    scene.dry.world.die(scene.uuid)
    row = scene.ended(job)
    assert (row.state, row.result["version"]) == ("done", stamp), row.error
    assert scene.state == State.EMERGENCY
    story = ["hand_over", "left", "activate", "standin_up"]
    assert [one for one in scene.events() if one in story] == story


def test_it_is_refused_where_nobody_could_tell_afterwards_that_it_is_off(scene: Scene) -> None:
    scene.dry.world.cut_off = True
    with pytest.raises(NotfallError) as refused:
        scene.begin()
    assert refused.value.code == "hand-over-unguarded" and scene.state == State.NORMAL
    assert "hand_over" not in scene.events()


def test_called_back_in_time_it_works_on_and_may_not_go_any_more(scene: Scene) -> None:
    job = scene.begin()
    stamp = scene.await_last(job)
    scene.conductor.undo(scene.uuid, "anna")
    assert scene.ended(job).state == "cancelled"
    assert scene.state == State.NORMAL and LEFT not in scene.notes
    assert scene.farewell(stamp) == "handover-over"
    assert scene.events()[-1] != "left"


def test_an_agent_that_goes_on_instead_is_believed(scene: Scene) -> None:
    job = scene.begin()
    scene.await_last(job)
    run = scene.dry.means.runs.of_primary(scene.uuid)
    assert run is not None
    run.idle = True
    row = scene.ended(job)
    assert row.error["code"] == "no-farewell" and scene.state == State.NORMAL


@pytest.mark.parametrize("told", [True, False])
def test_a_restart_goes_on_after_the_farewell_and_begins_again_before_it(
    scene: Scene, told: bool
) -> None:
    job = scene.begin()
    stamp = scene.await_last(job)
    if told:
        assert scene.farewell(stamp) == ""
    scene.restart()
    if told:
        until(lambda: scene.phase(job) == "waiting until the original is off")
    else:
        # What the agent had sealed before is over: it is refused, and works on.
        newest = scene.await_last(job)
        assert newest > stamp and scene.farewell(stamp) == "handover-over"
        assert scene.farewell(newest) == ""
        stamp = newest
    scene.dry.world.die(scene.uuid)
    assert scene.ended(job).result["version"] == stamp
    assert scene.state == State.EMERGENCY


def test_where_the_stand_in_can_not_start_the_original_is_said_to_be_off_and_whole(
    scene: Scene,
) -> None:
    server = scene.dry.world.server(scene.uuid)
    assert server is not None
    scene.dry.world.let_start(scene.uuid, False)
    job = scene.begin()
    stamp = scene.await_last(job)
    assert scene.farewell(stamp) == ""
    scene.dry.world.die(scene.uuid)
    row = scene.ended(job)
    assert (row.state, row.error["code"]) == ("failed", "stand-in-off")
    assert scene.state == State.OUTAGE
    left = read_left(scene.notes)
    assert left is not None and left.version == stamp
    scene.poll("b1")  # an echo
    assert read_left(scene.notes) is not None
    scene.poll("b2")  # somebody switched it on again
    assert LEFT not in scene.notes


@pytest.mark.parametrize(
    ("left", "state"), [(False, State.NORMAL), (True, State.OUTAGE)], ids=["works", "off"]
)
def test_a_state_without_its_job_is_mended(scene: Scene, left: bool, state: State) -> None:
    scene.catalogue.primaries.move(
        scene.uuid, State.NORMAL, State.HANDING_OVER, Event.HAND_OVER, "anna"
    )
    if left:
        note = {"version": "v", "boot": "b1", "job": "j", "at": "2026-11-26T12:00:00+00:00"}
        scene.catalogue.primaries.note(scene.uuid, **{LEFT: note})
    scene.conductor.mend()
    assert scene.state == state
