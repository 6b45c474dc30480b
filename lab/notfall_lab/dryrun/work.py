"""Jobs in which only time passes; their states, notes and journal are those of the real ones."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

from notfall_lab.dryrun.paper import (
    Taken,
    used_bytes,
    write_prepared,
    write_standin,
    write_version,
)
from notfall_lab.dryrun.world import World, steps
from notfallserver.server.cycle.handover.plan import LEFT, Left
from notfallserver.server.cycle.handovers import HandOver
from notfallserver.server.cycle.moves import because
from notfallserver.server.cycle.runner import Cancelled, JobContext
from notfallserver.server.cycle.standin import machine_name
from notfallserver.server.cycle.state import Event
from notfallserver.server.cycle.work import Work
from notfallserver.server.pool.health import Health
from notfallserver.server.pool.store import Clones, PrimaryStore
from notfallserver.server.pool.version import Version
from notfallserver.server.records.primaries import Primary
from notfallserver.server.rescue_medium import medium_in, seal_medium
from notfallserver.wire.errors import NotfallError

FIRST_S, COPY_S, FROZEN_S, PREPARE_S, BOOT_S, CAPTURE_S, CHECK_S, BUILD_S, STOP_S = (
    *(60.0, 12.0, 1.0, 8.0, 16.0, 3.0, 15.0, 20.0, 6.0),
)
"""How long things take at speed 1; much less than in life, so that a person can watch."""


@dataclass(frozen=True)
class PaperWork(Work):
    """The jobs up to emergency operation; the way back uses the real ones on top of these."""

    world: World = field(kw_only=True)

    def register(self) -> None:
        super().register()
        self.runner.register("scrub", self.scrub)

    # -- normal operation ------------------------------------------------------------------------

    def replicate(self, ctx: JobContext) -> dict[str, Any]:
        return self.arrived(ctx, self.copy(ctx))

    def copy(self, ctx: JobContext) -> Version:
        """A version, as an agent makes it."""
        row = self.means.catalogue.primaries.find(ctx.primary)
        store = self.means.pool.add_primary(row.uuid, row.name)
        ctx.progress("waiting for the agent")
        while (server := self.world.server(row.uuid)) is None or not server.alive:
            ctx.sleep(0.5)
        whole = used_bytes(server.machine)
        changed = whole // 150 if row.newest_version else whole
        began = time.monotonic()
        self._pass(ctx, "hot", COPY_S if row.newest_version else FIRST_S, changed, by_agent=True)
        self._pass(ctx, "frozen", FROZEN_S, changed // 50, by_agent=True)
        taken = Taken(changed=changed, took=timedelta(seconds=time.monotonic() - began))
        return write_version(store, row.name, server.machine, taken)

    def _pass(
        self, ctx: JobContext, phase: str, seconds: float, total: int, by_agent: bool = False
    ) -> None:
        lasts = self.world.lasting(seconds)
        began = time.monotonic()
        for moment in steps(lasts):
            ctx.progress(phase, int(total * moment / lasts), total)
            ctx.sleep(max(0.0, began + moment - time.monotonic()))
            if by_agent and not self.world.is_alive(ctx.primary):
                raise NotfallError("agent-lost", "The agent fell silent.", retry=True)
            if self.means.pool.free()[0] < total:
                raise NotfallError("pool-full", "There is no space left in the pool.")

    def prepared(self, ctx: JobContext, store: PrimaryStore, version: Version) -> Clones:
        if (done := store.prepared(version.stamp)) is not None:
            return done
        self._pass(ctx, "adapting in the appliance", PREPARE_S, 0)
        store.health.change(version.stamp, lambda one: replace(one, renew=False))
        return write_prepared(store, version)

    def keep_standin(self, store: PrimaryStore) -> None:
        write_prepared(store, store.need_newest())

    def rescue_build(self, ctx: JobContext) -> dict[str, Any]:
        for phase in ("installing packages", "packing the rescue system", "writing the medium"):
            self._pass(ctx, phase, BUILD_S / 3, 0)
        directory = self.means.rescue_dir
        directory.mkdir(exist_ok=True)
        medium = medium_in(directory)
        for path in vars(medium).values():
            path.write_bytes(b"of paper\n")
        seal_medium(directory, self.means.urls)
        return {key: str(path) for key, path in vars(medium).items()}

    def scrub(self, ctx: JobContext) -> dict[str, Any]:
        """A check that finds nothing."""
        store = self.means.pool.primary(ctx.primary)
        for version in store.versions():
            self._pass(ctx, "checking", CHECK_S / 4, version.bytes_used)
            moment = datetime.now(timezone.utc).isoformat()
            store.health.change(version.stamp, partial(_checked, at=moment))
        return {"damaged": 0}

    def take_last(self, ctx: JobContext) -> Version:
        """What a server that is handed over does: shut down, send what is left, say farewell."""
        store = self.means.pool.primary(ctx.primary)
        row = self.means.catalogue.primaries.find(ctx.primary)
        server = self.world.server(ctx.primary)
        machine = server.machine if server else store.need_newest().manifest.machine
        self._pass(ctx, "shutting down", STOP_S, 0, by_agent=True)
        self._pass(ctx, "frozen", FROZEN_S, used_bytes(machine) // 5000, by_agent=True)
        version = write_version(store, row.name, machine, Taken(changed=1 << 20))
        boot = server.boot if server else ""
        left = Left(version.stamp, boot, ctx.job.id, datetime.now(timezone.utc).isoformat())
        self.means.catalogue.primaries.note(ctx.primary, **{LEFT: left.to_json()})
        details = {"version": version.stamp}
        self.means.catalogue.journal.write(ctx.primary, "left", "agent", details=details)
        self.world.die(ctx.primary)
        return version

    # -- activation and emergency operation ------------------------------------------------------

    def activate(self, ctx: JobContext) -> dict[str, Any]:
        primary = ctx.primary
        name = machine_name(primary)
        store = self.means.pool.primary(primary)
        server = self.world.server(primary)
        try:
            self.fencing.clear_way(ctx)
            prepared = self._startable(ctx, store)
            write_standin(store, prepared)
            self.means.hypervisor.start(name)
            ports = server.machine.ports if server else []
            self._boot(ctx, len(ports))
            if server is not None and not server.starts:
                self.means.hypervisor.kill(name)
                raise NotfallError("stand-in-off", "The stand-in went off while it started.")
        except (Exception, Cancelled) as error:
            self._drop_unstarted(store, error)
            self.drop_standin(store)
            self.move(primary, Event.ACTIVATION_FAILED, ctx.job.who, *because(error))
            raise
        asked = datetime.fromisoformat(ctx.parameters["asked_at"])
        own = round((datetime.now(timezone.utc) - asked).total_seconds(), 3)
        result = {"version": prepared.version, "own_s": own, "ports": ports}
        self.move(primary, Event.STANDIN_UP, ctx.job.who, details=result)
        return result

    def _boot(self, ctx: JobContext, ports: int) -> None:
        count = len(steps(self.world.lasting(BOOT_S)))
        for step in range(1, count + 1):
            ctx.progress("waiting for the service", int(ports * step / count / 1.01), ports)
            ctx.sleep(self.world.lasting(BOOT_S) / count)  # the speed may change meanwhile

    def capture(self, ctx: JobContext) -> dict[str, Any]:
        row = self.means.catalogue.primaries.find(ctx.primary)
        store = self.means.pool.primary(row.uuid)
        newest = store.need_newest()
        changed = newest.bytes_used // 300
        self._pass(ctx, "reading what changed", CAPTURE_S, changed)
        machine = newest.manifest.machine
        version = write_version(store, row.name, machine, Taken("capture", changed=changed))
        self.took_version(row.uuid, version.stamp)
        return {"version": version.stamp, "pause_ms": 9.0, "bytes_changed": changed}


@dataclass(frozen=True)
class PaperHandOver(HandOver):
    """The real job; only what an agent does is of paper."""

    paper: PaperWork = field(kw_only=True)

    def replicate(self, ctx: JobContext, last: bool) -> Version:
        return self.paper.take_last(ctx) if last else self.paper.copy(ctx)

    def refuse_unready(self, row: Primary) -> None:
        """What this very host lacks for stand-ins doesn't matter on paper."""


def _checked(health: Health, at: str) -> Health:
    return replace(health, checked_at=at)
