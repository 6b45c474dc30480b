"""Builds the real house on paper, and the world around it; all of it in one directory."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import cast

from fastapi import FastAPI

from notfall_lab.dryrun.agents import Agents, QuickDesk, QuickOrders, RescueTarget
from notfall_lab.dryrun.conductor import PaperConductor
from notfall_lab.dryrun.hypervisor import PaperHypervisor
from notfall_lab.dryrun.machines import called, captured
from notfall_lab.dryrun.panel import world_router
from notfall_lab.dryrun.paper import PaperPool, write_past
from notfall_lab.dryrun.world import Server, World
from notfallserver.server.authority import create_authority
from notfallserver.server.cycle.doors import AgentDoor, TargetDoor
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.normal.runs import Runs
from notfallserver.server.cycle.runner import JobRunner
from notfallserver.server.cycle.state import Event, State
from notfallserver.server.health.watch import HealthWatch
from notfallserver.server.house import House
from notfallserver.server.metrics.meter import Meter
from notfallserver.server.pool.known import KnownContent
from notfallserver.server.pool.setup import PoolPlace
from notfallserver.server.pool.version import Version
from notfallserver.server.records import open_catalogue
from notfallserver.server.records.catalogue import FILE
from notfallserver.server.report.reports import Reports
from notfallserver.server.settings import Settings
from notfallserver.server.tell.teller import Teller
from notfallserver.server.vm.hypervisor import Hypervisor
from notfallserver.server.web.app import make_app
from notfallserver.server.web.report_paper import PaperWords
from notfallserver.server.web.serve import serve
from notfallserver.server.web.tidings import Tidings

PASSWORD = "only-a-dry-run"
SERVERS = {"shop": "shop", "erp": "depot", "files": "vault", "mail": "depot"}
"""Names in the world and the captured machines that they are."""
TARGETS = ("new-bios", "new-uefi")
AGES = (2, 3, 5, 8, 13, 21, 34, 55, 89)
"""How old the copies are at the beginning, in quarters of an hour."""
SILENT_S = 20.0


@dataclass(frozen=True)
class DryHouse:
    """A house, its means and its world."""

    house: House
    means: Means
    world: World
    conductor: PaperConductor
    targets: list[RescueTarget] = field(default_factory=list)

    def add(self, name: str, machine: str, ages: Sequence[int] = AGES) -> str:
        """Enrol a server as an agent would; with copies that old, in quarters of an hour."""
        catalogue, authority = self.house.catalogue, self.house.authority
        facts = called(captured(machine), name, len(self.world.servers) + 10)
        invite = catalogue.invites.invite(name, "admin")
        enrolled = catalogue.invites.enrol(
            invite.token,
            facts,
            self.house.settings.schedule_minutes,
            self.house.settings.capture_minutes,
            lambda uuid: authority.issue_client(uuid).serial,
        )
        uuid = enrolled.uuid
        store = self.means.pool.add_primary(uuid, name)
        made = write_past(store, name, facts, [timedelta(minutes=15 * age) for age in ages])
        for version in made:
            details = {"version": version.stamp, "kind": "replication"}
            catalogue.journal.write(uuid, "version", "server", details=details)
        if made:
            catalogue.primaries.new_version(uuid, made[-1].stamp)
            catalogue.primaries.move(
                uuid, State.NEW, State.NORMAL, Event.FIRST_VERSION, "agent", "first complete copy"
            )
            self._put_back(uuid, made)
        self.world.put(Server(uuid, name, facts))
        return uuid

    def _put_back(self, uuid: str, made: Sequence[Version]) -> None:
        """Let the journal tell of these copies when they were made, and of the rest before them."""
        first = made[0].manifest.started_at
        moments = [(version.manifest.sealed_at, version.stamp) for version in made]
        with closing(sqlite3.connect(self.house.settings.data_dir / FILE)) as database, database:
            database.execute('UPDATE journal SET at = ? WHERE "primary" = ?', (first, uuid))
            database.executemany(
                "UPDATE journal SET at = ? WHERE json_extract(details, '$.version') = ?", moments
            )

    def boot(self, machine: str) -> RescueTarget:
        """Start a captured machine from the rescue medium."""
        target = RescueTarget(
            self.world, TargetDoor(self.means), self.house.catalogue, captured(machine)
        )
        target.start()
        return target

    def app(self) -> FastAPI:
        """The product's app, and the page ``/world``."""
        panel = world_router(self.world, self.boot, self.targets, list(TARGETS))
        return make_app(self.house, (panel,))

    def run(self, tell: Callable[[], None]) -> None:
        """Serve until a signal; ``tell`` is called when the port answers."""
        hypervisor = cast("PaperHypervisor", self.means.hypervisor)
        agents = Agents(self.world, AgentDoor(self.means, self.conductor), hypervisor)

        def started() -> None:
            agents.start()
            self.house.runner.submit("rescue_build", None, {}, "server", join=True)
            self.conductor.duties.start()
            self.house.health.start()
            self.house.teller.start()
            tell()

        try:
            serve(self.app(), self.house, {}, started)
        finally:
            self.world.ended.set()
            self.house.teller.stop()
            self.house.health.stop()
            self.conductor.duties.stop()
            self.house.runner.stop()
            agents.join(10)
            for target in self.targets:
                target.join(10)


@contextmanager
def dry_house(
    directory: Path, port: int, speed: float = 1, host: str = "127.0.0.1", password: str = PASSWORD
) -> Iterator[DryHouse]:
    """A house whose administrator ``admin`` has ``password``; nothing runs in it yet."""
    url = f"https://{'[::1]' if host == '::' else host}:{port}"
    settings = Settings(
        data_dir=directory,
        pool_path=directory / "pool",
        listen_host=host,
        listen_port=port,
        urls=(url,),
        scrub_days=0,
        rehearsal_days=0,
        share_blocks=False,
    ).model_copy(update={"heartbeat_timeout_s": max(3, round(SILENT_S / speed))})
    settings.pool_path.mkdir(parents=True)
    authority = create_authority(directory / "ca")
    authority.ensure_server_certificate(["localhost", "127.0.0.1"])
    world = World(speed)
    pool = PaperPool(settings.pool_path)
    pool.tell_room(world)
    catalogue = open_catalogue(directory)
    try:
        catalogue.people.keep_administrator("admin", password, "root")
        runner = JobRunner(catalogue.jobs, catalogue.journal)
        means = Means(
            settings=settings,
            catalogue=catalogue,
            pool=pool,
            place=PoolPlace(settings.pool_path, None, True),
            hypervisor=cast("Hypervisor", PaperHypervisor(world)),
            runs=Runs(pool, KnownContent(pool, False)),
            orders=QuickOrders(),
            desk=QuickDesk(),
            ca_pem=authority.ca_pem,
            urls=(url,),
        )
        conductor = PaperConductor(means, runner, world)
        health = HealthWatch(means, authority)
        reports = Reports(means, runner, authority, PaperWords())
        agent = directory / "agent.pyz"
        agent.write_bytes(b"of paper\n")
        house = House(
            settings=settings,
            catalogue=catalogue,
            runner=runner,
            authority=authority,
            conductor=conductor,
            agent_package=agent,
            urls=(url,),
            health=health,
            teller=Teller(catalogue, Tidings(catalogue, health, url), reports.shelf.directory),
            reports=reports,
            meter=Meter(means, health),
        )
        yield DryHouse(house, means, world, conductor)
    finally:
        catalogue.close()
