"""The jobs up to emergency operation: replication, prepared image, activation, captures.

Each is a function of its context, which the conductor has done in the background. The way back
from emergency operation is in ``way_back.py``.

A job interrupted by the server's end is run again from the start; so every step here can be
repeated, or is skipped when the context's notes or the pool say that it is done.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from notfallserver.server.cycle.activation.start import await_answer, bring_up
from notfallserver.server.cycle.alarm.alarms import begin_measuring, pinned_clean
from notfallserver.server.cycle.care import Care
from notfallserver.server.cycle.choice import forget_wish, ready_instead, taken_of
from notfallserver.server.cycle.emergency.captures import Captures
from notfallserver.server.cycle.fencing import Fencing, is_wished
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.moves import Move, because
from notfallserver.server.cycle.normal.prepare import prepare_image
from notfallserver.server.cycle.normal.replication import follow_replication, result_of
from notfallserver.server.cycle.runner import Cancelled, JobContext, JobRunner
from notfallserver.server.cycle.standin import machine_name
from notfallserver.server.cycle.state import Event, State
from notfallserver.server.pool.proof import Evidence
from notfallserver.server.pool.store import Clones, PrimaryStore
from notfallserver.server.pool.version import Version
from notfallserver.server.rescue_medium import Medium, build_medium, find_medium
from notfallserver.server.vm.hypervisor import LIVE
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

MOST_APPLIANCES = 2
"""So many images are prepared at once in the background; an activation doesn't wait for them."""


_BUILDING = {
    "packages": "installing packages",
    "squash": "packing the rescue system",
    "initrd": "packing the rescue system",
    "iso": "writing the medium",
}


@dataclass(frozen=True)
class Work:
    """All job functions."""

    means: Means
    runner: JobRunner
    captures: Captures
    care: Care
    move: Move
    allow: Callable[[str, JobContext], None]
    """Asks the guard once more before a restarted activation; raises its refusal."""
    fencing: Fencing
    appliances: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(MOST_APPLIANCES)
    )
    preparing: dict[str, threading.Lock] = field(
        default_factory=lambda: defaultdict(threading.Lock)
    )

    def register(self) -> None:
        """Name the jobs and which of them cannot run together for one primary."""
        runner = self.runner
        runner.register("replicate", self.replicate, {"switch_back", "recover"})
        runner.register("prepare", self.prepare)
        runner.register("activate", self.activate, {"recover", "switch_back"})
        runner.register("capture", self.capture, {"recover", "switch_back"})
        runner.register("rescue_build", self.rescue_build)

    # -- normal operation ------------------------------------------------------------------------

    def replicate(self, ctx: JobContext) -> dict[str, Any]:
        primary = ctx.primary
        version = follow_replication(ctx, primary, self.means.runs, self.means.orders)
        return self.arrived(ctx, version)

    def arrived(self, ctx: JobContext, version: Version) -> dict[str, Any]:
        """What follows on a version of the primary itself; may be repeated."""
        primary = ctx.primary
        self.took_version(primary, version.stamp)
        row = self.means.catalogue.primaries.find(primary)
        if row.state == State.NEW:
            self.move(primary, Event.FIRST_VERSION, ctx.job.who, "first complete copy")
        self.runner.submit("prepare", primary, {}, "server", join=True)
        return result_of(version)

    def took_version(self, primary: str, stamp: str) -> None:
        store = self.means.pool.primary(primary)
        version = store.version(stamp)
        store.protect()
        self.means.catalogue.primaries.new_version(primary, stamp, version.manifest.machine)
        self.means.catalogue.journal.write(
            primary,
            "version",
            "server",
            details={"version": stamp, "kind": version.manifest.kind},
        )
        self.care.settle(primary, stamp)
        begin_measuring(self.runner, primary)

    def prepare(self, ctx: JobContext) -> dict[str, Any]:
        store = self.means.pool.primary(ctx.primary)
        while True:
            ctx.progress("waiting for other images")
            with self.appliances:
                prepared = self.prepared(ctx, store, store.need_best())
            best = store.best()
            if best is None or best.stamp == prepared.version:  # none came meanwhile
                self._keep_clean_ready(ctx, store)
                self._note_firmware(ctx.primary, prepared)
                return dict(prepared.record)

    def _keep_clean_ready(self, ctx: JobContext, store: PrimaryStore) -> None:
        """The version that an alarm holds is what a stand-in would be started from."""
        clean = pinned_clean(store)
        if clean and self.means.place.reflink:
            try:
                with self.appliances:
                    self.prepared(ctx, store, store.version(clean))
            except NotfallError as error:  # the newest one is ready all the same
                log.warning("%s: %s could not be prepared: %s", store.uuid, clean, error)

    def _note_firmware(self, primary: str, prepared: Clones) -> None:
        """Keep what a machine may start by to which it shall come back one day."""
        told = prepared.record.get("boots_by")
        if told and told != self.means.catalogue.primaries.find(primary).notes.get("boots_by"):
            self.means.catalogue.primaries.note(primary, boots_by=told)

    def prepared(self, ctx: JobContext, store: PrimaryStore, version: Version) -> Clones:
        """The adapted image of a version; made now if it isn't there."""
        if (done := store.prepared(version.stamp)) is not None:
            return done
        medium = self.medium(ctx)
        # An activation that comes while the image is being prepared waits for just that.
        with self.preparing[store.uuid]:
            return prepare_image(
                self.means.settings,
                self.means.hypervisor,
                medium,
                store,
                version,
                ctx.progress,
                ctx.check,
                self._wanted(store.uuid),
            )

    def _wanted(self, primary: str) -> set[str]:
        """The versions that activations under way are for, and the one that an alarm holds."""
        jobs = self.means.catalogue.jobs.unfinished(primary, "activate")
        wanted = {str(one.parameters.get("version") or "") for one in jobs}
        if self.means.place.reflink:
            wanted.add(pinned_clean(self.means.pool.primary(primary)))
        return wanted

    def medium(self, ctx: JobContext) -> Medium:
        """The rescue medium; waits for its first build."""
        while (medium := find_medium(self.means.rescue_dir)) is None:
            job = self.runner.submit("rescue_build", None, {}, "server", join=True)
            ctx.progress("waiting for the rescue medium")
            while not (job := self.runner.wait(job.id, 0)).finished:
                ctx.sleep(0.5)
            if job.state == "failed":
                raise NotfallError.from_json(job.error or {}, 500)
        return medium

    def rescue_build(self, ctx: JobContext) -> dict[str, Any]:
        medium = build_medium(
            self.means.rescue_dir,
            self.means.urls,
            self.means.ca_pem,
            self.means.settings.rescue_cache or self.means.rescue_dir / "cache",
            progress=lambda phase, done, total: ctx.progress(_BUILDING[phase]),
        )
        return {key: str(path) for key, path in vars(medium).items()}

    # -- activation and emergency operation ------------------------------------------------------

    def activate(self, ctx: JobContext) -> dict[str, Any]:
        primary = ctx.primary
        store = self.means.pool.primary(primary)
        if self.means.catalogue.primaries.find(primary).state != State.ACTIVATING:
            forget_wish(self.means, primary)
            return {"state": "done before the server was restarted"}
        if (ctx.notes.get("begun") or ctx.parameters.get("again")) and not is_wished(ctx):
            self._allow_again(ctx)
        ctx.note(begun=True)
        try:
            self.fencing.clear_way(ctx)
            prepared = self._startable(ctx, store)
            machine = store.version(prepared.version).manifest.machine
            settings = self.means.for_standin(primary)
            times = bring_up(settings, self.means.hypervisor, store, prepared, machine)
            if "own_s" not in ctx.notes:
                ctx.note(own_s=self._since(ctx), steps=times.to_json())
            answer = await_answer(ctx, self.means.hypervisor, machine_name(primary), machine)
        except (Exception, Cancelled) as error:
            self._keep_refutation(ctx, store, error)
            self._drop_unstarted(store, error)
            self.move(primary, Event.ACTIVATION_FAILED, ctx.job.who, *because(error))
            forget_wish(self.means, primary)
            raise
        damaged = self.care.tell_use(store, prepared.version)
        self._tell_choice(ctx, store, prepared.version)
        result = {
            "version": prepared.version,
            **({"damaged_blocks": damaged} if damaged else {}),
            "own_s": ctx.notes["own_s"],
            "steps": {**ctx.notes["steps"], "answer": round(answer.seconds, 1)},
            "ports": answer.ports,
            "silent_ports": answer.silent,
        }
        self.move(primary, Event.STANDIN_UP, ctx.job.who, details=result)
        forget_wish(self.means, primary)
        return result

    def _allow_again(self, ctx: JobContext) -> None:
        """The server was away meanwhile: is the original still dead? A stand-in that ran before
        is left as it is, whatever the answer: it may hold new data."""
        try:
            self.allow(ctx.primary, ctx)
        except NotfallError as error:
            self.move(ctx.primary, Event.ACTIVATION_FAILED, "server", *because(error))
            raise

    def _since(self, ctx: JobContext) -> float:
        """Seconds from the click to now, where the guest's first instruction has just run."""
        asked = datetime.fromisoformat(ctx.parameters["asked_at"])
        return round((datetime.now(timezone.utc) - asked).total_seconds(), 3)

    def _startable(self, ctx: JobContext, store: PrimaryStore) -> Clones:
        """The image of the version that was chosen; where nobody chose, and what the rule takes
        can't be prepared, another that is ready."""
        if (standin := store.standin()) is not None:
            return standin  # made before the server was restarted
        chosen = str(ctx.parameters.get("version") or "")
        try:
            stamp = chosen or taken_of(store)
            return self.prepared(ctx, store, store.version(stamp) if stamp else store.need_best())
        except NotfallError as error:
            older = None if chosen else ready_instead(store)
            if older is None:
                raise
            self.means.catalogue.journal.write(
                store.uuid, "older-version-used", "server", str(error), {"version": older.version}
            )
            return older

    def _tell_choice(self, ctx: JobContext, store: PrimaryStore, stamp: str) -> None:
        """Journal that it isn't the newest version, where somebody wanted that or the rule did."""
        newest = store.newest()
        if newest is None or newest.stamp == stamp or store.health.of(newest.stamp).damaged:
            return
        chosen = bool(ctx.parameters.get("version"))
        who = ctx.job.who if chosen else "server"
        told = {"version": stamp, "newest": newest.stamp}
        self.means.catalogue.journal.write(store.uuid, "older-version-chosen", who, details=told)

    def _keep_refutation(self, ctx: JobContext, store: PrimaryStore, error: BaseException) -> None:
        """What went off while it started is not offered first the next time."""
        standin = store.standin()
        if standin is None or not isinstance(error, NotfallError) or error.code != "stand-in-off":
            return
        known = store.proofs.of(standin.version) or Evidence()
        at = datetime.now(timezone.utc).isoformat()
        told = replace(known, rehearsal=ctx.job.id, at=at, started=False, picture=False)
        store.proofs.keep(standin.version, replace(told, start_s=None, ports=(), silent=()))

    def _drop_unstarted(self, store: PrimaryStore, error: BaseException) -> None:
        """Clear away what did not start. What runs, or may run, may hold new data: it is left."""
        code = error.code if isinstance(error, NotfallError) else ""
        if code == "hypervisor-unreachable":
            return
        if (
            code == "stand-in-off"
            or self.means.hypervisor.state(machine_name(store.uuid)) not in LIVE
        ):
            self.drop_standin(store)

    def drop_standin(self, store: PrimaryStore) -> None:
        """Machine and disks are gone afterwards; whoever calls knows that nothing is lost."""
        self.means.hypervisor.undefine(machine_name(store.uuid))
        store.retire_standin()

    def keep_standin(self, store: PrimaryStore) -> None:
        """After a switch-back: the stand-in's disks, of which its last version was captured when it
        was off, are that version's prepared image. They were adapted before it worked."""
        version = store.need_newest()
        if version.manifest.kind != "capture" or store.prepared(version.stamp) is not None:
            return
        before = store.newest_prepared()
        record = before.record if before is not None else {}
        kept = ("changes", "warnings", "boots_by", "clock")
        told = {key: record[key] for key in kept if key in record}
        with self.preparing[store.uuid], store.preparing(version) as clones:
            store.seal_prepared(clones, {**told, "system": record.get("system", "")})

    def capture(self, ctx: JobContext) -> dict[str, Any]:
        primary = ctx.primary

        def tell(done: int, total: int) -> None:
            ctx.check()
            ctx.progress("reading what changed", done, total)

        taken = self.captures.take(self.means.pool.primary(primary), tell)
        self.took_version(primary, taken.version.stamp)
        return {
            "version": taken.version.stamp,
            "pause_ms": round(taken.pause_ms, 1),
            "bytes_changed": taken.changed,
        }
