"""Builds the server in one visible place and runs it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI

from notfallserver.server.addresses import own_urls, server_names
from notfallserver.server.agent_package import pack_agent
from notfallserver.server.authority import Authority
from notfallserver.server.cycle.agentless import was_imported
from notfallserver.server.cycle.conductor import Conductor
from notfallserver.server.cycle.doors import AgentDoor, TargetDoor
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.normal.orders import Orders
from notfallserver.server.cycle.normal.runs import Runs
from notfallserver.server.cycle.recovery.desk import Desk
from notfallserver.server.cycle.runner import JobRunner
from notfallserver.server.cycle.state import State
from notfallserver.server.health.watch import HealthWatch
from notfallserver.server.host.files import replace_file
from notfallserver.server.host.immutable import can_protect
from notfallserver.server.house import House
from notfallserver.server.metrics.meter import Meter
from notfallserver.server.pool.known import KnownContent
from notfallserver.server.pool.store import Pool
from notfallserver.server.ready_pool import ready_pool
from notfallserver.server.records import Catalogue, open_catalogue
from notfallserver.server.records.primaries import AGENTLESS
from notfallserver.server.report.reports import Reports
from notfallserver.server.rescue_medium import find_medium
from notfallserver.server.settings import Settings
from notfallserver.server.tell.teller import Teller
from notfallserver.server.vm.libvirt import LibvirtHypervisor
from notfallserver.server.web.agents import agents_router, frame_takers
from notfallserver.server.web.app import make_app
from notfallserver.server.web.lane import Take
from notfallserver.server.web.report_paper import PaperWords
from notfallserver.server.web.serve import serve
from notfallserver.server.web.targets import targets_router
from notfallserver.server.web.tidings import Tidings
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(
        level=settings.log_level.upper(),
        stream=sys.stderr,
        format="%(levelname)s %(name)s: %(message)s",
    )
    # Images are for root and, by libvirt's doing, for the machine that runs on them; directories
    # can be passed, because QEMU runs as a user of its own.
    os.umask(0o066)
    place = ready_pool(settings)
    protect = settings.protect_versions and can_protect(settings.pool_path)
    pool = Pool(place.directory, not place.reflink, protect, place.image)
    pool.sweep()
    authority = Authority(settings.data_dir / "ca")
    authority.ensure_server_certificate(server_names(settings))
    catalogue = open_catalogue(settings.data_dir)
    try:
        catalogue.sessions.keep_cli_token(settings.data_dir / "cli-token")
        _adopt(settings, catalogue, pool)
        runner = JobRunner(catalogue.jobs, catalogue.journal)
        means = Means(
            settings=settings,
            catalogue=catalogue,
            pool=pool,
            place=place,
            hypervisor=LibvirtHypervisor(settings.libvirt_uri),
            runs=Runs(pool, KnownContent(pool, settings.share_blocks)),
            orders=Orders(),
            desk=Desk(),
            ca_pem=authority.ca_pem,
            urls=own_urls(settings),
        )
        conductor = Conductor(means, runner)
        health = HealthWatch(means, authority)
        reports = Reports(means, runner, authority, PaperWords())
        house = House(
            settings=settings,
            catalogue=catalogue,
            runner=runner,
            authority=authority,
            conductor=conductor,
            agent_package=_write_agent(settings.data_dir / "agent.pyz"),
            urls=means.urls,
            health=health,
            teller=Teller(
                catalogue, Tidings(catalogue, health, means.urls[0]), reports.shelf.directory
            ),
            reports=reports,
            meter=Meter(means, health),
        )
        agents = AgentDoor(means, conductor)
        app = make_app(house, (agents_router(agents), targets_router(TargetDoor(means))))
        _serve(house, means, conductor, app, frame_takers(agents))
    finally:
        catalogue.close()


def _serve(
    house: House, means: Means, conductor: Conductor, app: FastAPI, frames: Mapping[str, Take]
) -> None:
    """Jobs and duties begin when the port is open and end before the catalogue closes."""

    def started() -> None:
        _wake_hypervisor(means)
        conductor.wake_standins()
        conductor.clear_rehearsals()
        house.runner.resume_unfinished()
        conductor.mend()
        if find_medium(means.rescue_dir) is None:
            house.runner.submit("rescue_build", None, {}, "server", join=True)
        conductor.duties.start()
        conductor.offloads.start()
        house.health.start()
        house.teller.start()
        house.reports.start()

    try:
        serve(app, house, frames, started)
    finally:
        house.reports.stop()
        house.teller.stop()
        house.health.stop()
        conductor.offloads.stop()
        conductor.duties.stop()
        house.runner.stop()
        conductor.close()
        means.runs.close()


def _wake_hypervisor(means: Means) -> None:
    """libvirt looks at this host's abilities once, for seconds: not in an activation, please."""
    try:
        log.info("hypervisor: %s", means.hypervisor.info())
    except NotfallError as error:
        log.warning("%s", error)


def _adopt(settings: Settings, catalogue: Catalogue, pool: Pool) -> None:
    """Primaries that the pool has and the catalogue lost; and the newest versions of the others."""
    for uuid, name in pool.primaries():
        newest = pool.primary(uuid).newest()
        catalogue.primaries.adopt_primary(
            uuid,
            name,
            newest.manifest.machine if newest else None,
            newest.stamp if newest else "",
            State.NORMAL if newest else State.NEW,
            settings.schedule_minutes,
            settings.capture_minutes,
        )
    for row in catalogue.primaries.all():
        store = pool.add_primary(row.uuid, row.name)
        if row.last_seen is None and AGENTLESS not in row.notes and was_imported(store):
            catalogue.primaries.note(row.uuid, **{AGENTLESS: True})
        newest = store.newest()
        if newest is not None and newest.stamp != row.newest_version:
            catalogue.primaries.new_version(row.uuid, newest.stamp)


def _write_agent(path: Path) -> Path:
    replace_file(path, pack_agent(), 0o644)
    return path
