"""Running a start plan: the order is kept, refusals are told, nothing is started twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from notfall_lab.patience import until
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.outage.guard import Verdict
from notfallserver.server.cycle.plans import run as run_module
from notfallserver.server.cycle.plans.order import Wish
from notfallserver.server.cycle.plans.room import Memory
from notfallserver.server.cycle.plans.run import Outcome
from notfallserver.server.cycle.plans.start_plan import StartPlans
from notfallserver.server.cycle.runner import JobContext, JobRunner, ServerStops
from notfallserver.server.records import Catalogue, open_catalogue
from notfallserver.server.records.jobs import Job
from notfallserver.server.records.start_place import Begins, IfFails
from notfallserver.server.settings import Settings
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import read_machine

GIB = 1 << 30
NAMES = ("dc", "shop", "sql")
MEMORY = Memory(whole=64 * GIB, free=64 * GIB)


@dataclass
class Company:
    """Servers that are down; a stand-in is a job that waits for its event."""

    catalogue: Catalogue
    memory: Memory = MEMORY
    alive: set[str] = field(default_factory=set)
    cut_off: bool = False
    silent: set[str] = field(default_factory=set)
    ordered: list[str] = field(default_factory=list)
    up: dict[str, threading.Event] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    """They fail when they are up."""
    after_order: Callable[[str], None] = lambda _: None

    def begin(self) -> None:
        self.runner = JobRunner(self.catalogue.jobs, self.catalogue.journal)
        self.runner.register("activate", self._boot)
        means = SimpleNamespace(
            catalogue=self.catalogue,
            settings=Settings(standin_memory_mib=8192),
            place=SimpleNamespace(image=None, reflink=True),
            pool=SimpleNamespace(free=lambda: (1 << 40, 1 << 40)),
        )
        self.plans = StartPlans(
            cast("Means", means),
            self.runner,
            self._activate,
            cast("Callable[[str], Verdict]", None),
            lambda: self.memory,
        )
        self.plans.register()

    def end(self) -> None:
        """The server ends in order, or is killed: its jobs stay unfinished."""
        self.runner.stop(5)

    def uuid(self, name: str) -> str:
        return self.catalogue.primaries.find(name).uuid

    def state(self, name: str) -> str:
        return self.catalogue.primaries.find(name).state

    def _activate(self, uuid: str, who: str) -> Job:
        row = self.catalogue.primaries.find(uuid)
        if self.cut_off:
            raise NotfallError("guard-cut-off", "Cut off.", "Look.", status=409)
        if row.name in self.alive:
            raise NotfallError("guard-alive", "It lives.", "Look.", status=409)
        self.catalogue.primaries.move(uuid, row.state, "activating", "activate", who)
        self.ordered.append(row.name)
        job = self.runner.submit("activate", uuid, {}, who)
        self.after_order(row.name)
        return job

    def _boot(self, ctx: JobContext) -> dict[str, Any]:
        row = self.catalogue.primaries.find(ctx.primary)
        event = self.up.setdefault(row.name, threading.Event())
        while not event.is_set():
            ctx.sleep(0.01)
        broken = row.name in self.broken
        after = "outage" if broken else "emergency"
        self.catalogue.primaries.move(row.uuid, "activating", after, "standin_up", "server")
        if broken:
            raise NotfallError("stand-in-off", "It went off.", "Look.", status=500)
        return {"silent_ports": [80] if row.name in self.silent else []}

    def is_up(self, *names: str) -> None:
        for name in names:
            self.up.setdefault(name, threading.Event()).set()

    def start(self, *names: str) -> Job:
        return self.plans.start([self.uuid(one) for one in names] or None, "anna")

    def outcomes(self) -> dict[str, str]:
        job = self.plans.last_run()
        assert job is not None
        names = self.catalogue.primaries.names()
        return {
            names[uuid]: stand.outcome if stand else "waiting"
            for uuid, stand in self.plans.stands(job).items()
        }

    def over(self, job: Job) -> Job:
        until(lambda: self.catalogue.jobs.find(job.id).finished)
        return self.catalogue.jobs.find(job.id)

    def set(self, name: str, **wish: Any) -> None:
        self.plans.change(self.uuid(name), Wish(**wish), "anna")


@pytest.fixture
def company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Company]:
    monkeypatch.setattr(run_module, "LOOK_S", 0.02)
    catalogue = open_catalogue(tmp_path)
    machine = read_machine({"hostname": "x", "memory": 4 * GIB, "cpus": 2})
    for name in NAMES:
        catalogue.primaries.adopt_primary(
            f"u-{name}", name, machine, "20261126T101500.000Z", "outage", 60, 15
        )
    made = Company(catalogue)
    made.begin()
    yield made
    made.end()
    catalogue.close()


def test_each_waits_until_the_one_before_works(company: Company) -> None:
    job = company.start()
    until(lambda: company.ordered == ["dc"])
    time.sleep(0.2)
    assert company.ordered == ["dc"]
    assert company.outcomes() == {"dc": "starting", "shop": "waiting", "sql": "waiting"}
    company.is_up("dc")
    until(lambda: company.ordered == ["dc", "shop"])
    company.is_up("shop", "sql")
    done = company.over(job)
    assert (done.state, done.result) == ("done", {"works": "dc, shop, sql"})
    assert set(company.outcomes().values()) == {Outcome.WORKS}
    told = [one for one in company.catalogue.journal.entries() if one.event == "start-plan-begun"]
    assert told[0].details["order"] == ["dc", "shop", "sql"]


def test_a_delay_counts_from_the_start_and_companions_start_at_once(company: Company) -> None:
    company.set("shop", begins=Begins.TOGETHER)
    company.set("sql", begins=Begins.DELAY, delay_s=1)
    began = time.monotonic()
    job = company.start()
    until(lambda: len(company.ordered) == 2)
    assert time.monotonic() - began < 0.9 and set(company.ordered) == {"dc", "shop"}
    until(lambda: len(company.ordered) == 3)  # though nothing is up
    assert 0.9 < time.monotonic() - began < 5
    company.is_up(*NAMES)
    assert company.over(job).state == "done"


def test_one_that_does_not_come_up_in_time_is_waited_for_no_longer(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notfallserver.server.cycle.plans.order.LEAST_LIMIT_S", 0)
    company.set("shop", limit_s=0)
    company.is_up("shop", "sql")
    job = company.start()
    until(lambda: company.ordered == ["dc", "shop", "sql"])
    assert company.outcomes()["dc"] == Outcome.STARTING
    company.is_up("dc")
    assert company.over(job).result == {"works": "dc, shop, sql"}


def test_whoever_may_not_fail_stops_the_plan(company: Company) -> None:
    company.set("dc", if_fails=IfFails.STOP)
    company.broken.add("dc")
    company.is_up(*NAMES)
    failed = company.over(company.start())
    assert failed.error and failed.error["code"] == "start-plan-stopped"
    assert company.ordered == ["dc"]
    assert company.outcomes() == {"dc": "failed", "shop": "left-out", "sql": "left-out"}


def test_others_may_fail(company: Company) -> None:
    company.broken.add("dc")
    company.silent.add("shop")
    company.is_up(*NAMES)
    done = company.over(company.start())
    assert done.result == {"failed": "dc", "silent": "shop", "works": "sql"}


def test_the_guard_is_not_overruled_and_the_living_stop_nobody(company: Company) -> None:
    company.set("dc", if_fails=IfFails.STOP)
    company.alive.add("dc")
    company.is_up(*NAMES)
    done = company.over(company.start())
    assert done.result == {"alive": "dc", "works": "shop, sql"}
    assert company.ordered == ["shop", "sql"] and company.state("dc") == "outage"


def test_nobody_waits_after_one_that_was_not_started(company: Company) -> None:
    for name in ("shop", "sql"):
        company.set(name, begins=Begins.DELAY, delay_s=600)
    company.alive.add("dc")
    company.is_up(*NAMES)
    job = company.start("dc", "shop")
    assert company.over(job).result == {"alive": "dc", "works": "shop"}


def test_a_guard_that_can_not_tell_does(company: Company) -> None:
    company.set("dc", if_fails=IfFails.STOP)
    company.cut_off = True
    assert company.over(company.start()).state == "failed"
    assert company.ordered == []
    assert company.outcomes() == {"dc": "refused", "shop": "left-out", "sql": "left-out"}


def test_who_finds_no_room_is_passed_over(company: Company) -> None:
    """Each takes 4 GiB and a bit; 10 GiB are there, 1 of them for the server itself."""
    company.memory = Memory(10 * GIB, 10 * GIB)
    company.is_up(*NAMES)
    done = company.over(company.start())
    assert done.result == {"works": "dc, shop", "no-room": "sql"}
    assert company.ordered == ["dc", "shop"]
    capacity = company.plans.capacity()
    assert [one.name for one in capacity.rest] == ["sql"] and capacity.missing_memory > 0
    company.set("sql", memory_mib=512)
    assert company.over(company.start()).result == {"works": "sql"}


def test_one_that_is_refused_leaves_its_room(company: Company) -> None:
    for name in ("shop", "sql"):
        company.set(name, begins=Begins.TOGETHER)
    company.memory = Memory(10 * GIB, 10 * GIB)
    company.alive.add("dc")
    company.is_up(*NAMES)
    assert company.over(company.start()).result == {"alive": "dc", "works": "shop, sql"}


def test_memory_that_others_use_counts(company: Company) -> None:
    company.memory = Memory(64 * GIB, 5 * GIB)
    assert [one.name for one in company.plans.capacity().fits] == ["dc"]


def test_a_restarted_server_goes_on_and_starts_nothing_twice(company: Company) -> None:
    job = company.start()
    until(lambda: company.outcomes()["dc"] == "starting")
    company.end()
    company.begin()
    company.runner.resume_unfinished()
    time.sleep(0.2)
    assert company.ordered == ["dc"]
    company.is_up(*NAMES)
    done = company.over(job)
    assert (done.state, done.result) == ("done", {"works": "dc, shop, sql"})
    assert company.ordered == ["dc", "shop", "sql"]


def test_killed_between_an_order_and_its_note_it_finds_what_it_had_ordered(
    company: Company,
) -> None:
    def die(_: str) -> None:
        raise ServerStops

    company.after_order = die
    job = company.start("dc", "shop")
    until(lambda: company.ordered == ["dc"])
    company.end()
    assert company.outcomes() == {"dc": "waiting", "shop": "waiting"}
    company.after_order = lambda _: None
    company.begin()
    company.runner.resume_unfinished()
    company.is_up("dc", "shop")
    assert company.over(job).result == {"works": "dc, shop"}
    assert company.ordered == ["dc", "shop"]


def test_stopped_it_starts_no_further_ones_and_what_has_started_goes_on(company: Company) -> None:
    job = company.start()
    until(lambda: company.outcomes()["dc"] == "starting")
    company.runner.cancel(job.id, "anna")
    assert company.over(job).state == "cancelled"
    assert company.outcomes() == {"dc": "starting", "shop": "left-out", "sql": "left-out"}
    company.is_up("dc")
    until(lambda: company.outcomes()["dc"] == "works")
    assert company.ordered == ["dc"]


def test_only_one_run_at_a_time_and_not_for_nobody(company: Company) -> None:
    job = company.start("dc")
    with pytest.raises(NotfallError) as caught:
        company.start("shop")
    assert caught.value.code == "start-plan-runs"
    company.is_up("dc")
    company.over(job)
    with pytest.raises(NotfallError) as caught:
        company.plans.start([], "anna")
    assert caught.value.code == "nothing-to-start"
    assert company.plans.down() == [company.uuid("shop"), company.uuid("sql")]


def test_a_stand_in_that_works_already_is_no_hindrance(company: Company) -> None:
    company.is_up(*NAMES)
    company.over(company.start("dc"))
    done = company.over(company.start("dc", "shop"))
    assert done.result == {"works": "dc, shop"}
    assert company.ordered == ["dc", "shop"]


def test_a_plan_changed_meanwhile_changes_no_run(company: Company) -> None:
    job = company.start()
    until(lambda: company.ordered == ["dc"])
    company.plans.order([[company.uuid(one)] for one in ("sql", "shop", "dc")], "anna")
    company.is_up(*NAMES)
    company.over(job)
    assert company.ordered == ["dc", "shop", "sql"]
