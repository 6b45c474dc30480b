"""The jobs: what the conductor has done in the background, each a function of its context.

A job interrupted by the server's end is run again from the start; so every step here can be
repeated, or is skipped when the context's notes or the pool say that it is done.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from notfallserver.server.cycle.activation.start import await_answer, bring_up
from notfallserver.server.cycle.emergency.captures import Captures
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.moves import Move
from notfallserver.server.cycle.normal.prepare import prepare_image
from notfallserver.server.cycle.normal.replication import follow_replication, result_of
from notfallserver.server.cycle.recovery.copying import Link
from notfallserver.server.cycle.recovery.keep_up import Closeness, keep_up
from notfallserver.server.cycle.recovery.switch import (
    await_primary,
    bring_back_standin,
    hand_back,
)
from notfallserver.server.cycle.runner import Cancelled, JobContext, JobRunner
from notfallserver.server.cycle.standin import machine_name
from notfallserver.server.cycle.state import Event, State
from notfallserver.server.pool.store import Clones, PrimaryStore
from notfallserver.server.rescue_medium import Medium, build_medium, find_medium
from notfallserver.server.vm.hypervisor import LIVE
from notfallserver.wire.errors import NotfallError

MOST_APPLIANCES = 2
"""So many images are prepared at once in the background; an activation doesn't wait for them."""
KEEP_UP_PAUSE_S = 120.0
"""How long a ready target rests between two rounds."""


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
    move: Move
    allow: Callable[[str, JobContext], None]
    """Asks the guard once more before a restarted activation; raises its refusal."""
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
        runner.register("recover", self.recover)
        runner.register("switch_back", self.switch_back)
        runner.register("undo", self.undo, {"activate", "recover", "switch_back"})
        runner.register("rescue_build", self.rescue_build)

    # -- normal operation ------------------------------------------------------------------------

    def replicate(self, ctx: JobContext) -> dict[str, Any]:
        primary = _primary(ctx)
        version = follow_replication(ctx, primary, self.means.runs, self.means.orders)
        self._took_version(primary, version.stamp)
        row = self.means.catalogue.primaries.find(primary)
        if row.state == State.NEW:
            self.move(primary, Event.FIRST_VERSION, ctx.job.who, "first complete copy")
        self.runner.submit("prepare", primary, {}, "server", join=True)
        return result_of(version)

    def _took_version(self, primary: str, stamp: str) -> None:
        version = self.means.pool.primary(primary).version(stamp)
        self.means.catalogue.primaries.new_version(primary, stamp, version.manifest.machine)
        self.means.catalogue.journal.write(
            primary,
            "version",
            "server",
            details={"version": stamp, "kind": version.manifest.kind},
        )

    def prepare(self, ctx: JobContext) -> dict[str, Any]:
        store = self.means.pool.primary(_primary(ctx))
        while True:
            ctx.progress("waiting for other images")
            with self.appliances:
                prepared = self._prepared(ctx, store)
            newest = store.newest()
            if newest is None or newest.stamp == prepared.version:  # none came meanwhile
                return dict(prepared.record)

    def _prepared(self, ctx: JobContext, store: PrimaryStore) -> Clones:
        """The adapted image of the newest version; made now if it isn't there."""
        version = store.need_newest()
        if (done := store.prepared(version.stamp)) is not None:
            return done
        medium = self._medium(ctx)
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
            )

    def _medium(self, ctx: JobContext) -> Medium:
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
        primary = _primary(ctx)
        store = self.means.pool.primary(primary)
        if self.means.catalogue.primaries.find(primary).state != State.ACTIVATING:
            return {"state": "done before the server was restarted"}
        if ctx.notes.get("begun") or ctx.parameters.get("again"):
            self.allow(primary, ctx)  # the server was away meanwhile: is the original still dead?
        ctx.note(begun=True)
        try:
            prepared = self._startable(ctx, store)
            machine = store.version(prepared.version).manifest.machine
            times = bring_up(self.means.settings, self.means.hypervisor, store, prepared, machine)
            if "own_s" not in ctx.notes:
                ctx.note(own_s=self._since(ctx), steps=times.to_json())
            answer = await_answer(ctx, self.means.hypervisor, primary, machine)
        except (NotfallError, Cancelled) as error:
            self._drop_unstarted(store, error)
            self.move(primary, Event.ACTIVATION_FAILED, ctx.job.who, str(error) or "cancelled")
            raise
        result = {
            "version": prepared.version,
            "own_s": ctx.notes["own_s"],
            "steps": {**ctx.notes["steps"], "answer": round(answer.seconds, 1)},
            "ports": answer.ports,
            "silent_ports": answer.silent,
        }
        self.move(primary, Event.STANDIN_UP, ctx.job.who, details=result)
        return result

    def _since(self, ctx: JobContext) -> float:
        """Seconds from the click to now, where the guest's first instruction has just run."""
        asked = datetime.fromisoformat(ctx.parameters["asked_at"])
        return round((datetime.now(timezone.utc) - asked).total_seconds(), 3)

    def _startable(self, ctx: JobContext, store: PrimaryStore) -> Clones:
        """The newest prepared image; an older one only when the newest can't be prepared."""
        if (standin := store.standin()) is not None:
            return standin  # made before the server was restarted
        try:
            return self._prepared(ctx, store)
        except NotfallError as error:
            older = store.newest_prepared()
            if older is None:
                raise
            self.means.catalogue.journal.write(
                store.uuid, "older-version-used", "server", str(error), {"version": older.version}
            )
            return older

    def _drop_unstarted(self, store: PrimaryStore, error: BaseException) -> None:
        """Clear away what did not start. What runs, or may run, may hold new data: it is left."""
        code = error.code if isinstance(error, NotfallError) else ""
        if code == "hypervisor-unreachable":
            return
        if (
            code == "stand-in-off"
            or self.means.hypervisor.state(machine_name(store.uuid)) not in LIVE
        ):
            self._drop_standin(store)

    def _drop_standin(self, store: PrimaryStore) -> None:
        self.means.hypervisor.undefine(machine_name(store.uuid))
        store.retire_standin()

    def capture(self, ctx: JobContext) -> dict[str, Any]:
        return self._capture(ctx)

    def _capture(self, ctx: JobContext) -> dict[str, Any]:
        primary = _primary(ctx)
        taken = self.captures.take(
            self.means.pool.primary(primary),
            lambda done, total: ctx.progress("reading what changed", done, total),
        )
        self._took_version(primary, taken.version.stamp)
        return {
            "version": taken.version.stamp,
            "pause_ms": round(taken.pause_ms, 1),
            "bytes_changed": taken.changed,
        }

    # -- recovery --------------------------------------------------------------------------------

    def _link(self, primary: str) -> Link:
        """The connection to the target that this primary is being recovered to."""
        notes = self.means.catalogue.primaries.find(primary).notes.get("recovery")
        if not notes:
            raise NotfallError("no-recovery", "There is no recovery under way.", status=409)
        return Link(self.means.desk, notes["target"], primary, notes["id"], notes["disks"])

    def recover(self, ctx: JobContext) -> dict[str, Any]:
        primary = _primary(ctx)
        link = self._link(primary)

        def tell(closeness: Closeness) -> None:
            notes = self.means.catalogue.primaries.find(primary).notes.get("recovery", {})
            self.means.catalogue.primaries.note(
                primary, recovery={**notes, "closeness": closeness.to_json()}
            )

        try:
            last = keep_up(
                ctx,
                link,
                lambda: str(self._capture(ctx)["version"]),
                tell,
                lambda: self._handed_over(primary),
                KEEP_UP_PAUSE_S,
            )
        except (NotfallError, Cancelled) as error:
            self._end_recovery(primary, link)
            self.move(primary, Event.RECOVERY_FAILED, ctx.job.who, str(error) or "cancelled")
            raise
        return last.to_json()

    def _handed_over(self, primary: str) -> bool:
        row = self.means.catalogue.primaries.find(primary)
        return row.state == State.SWITCHING_BACK

    def _end_recovery(self, primary: str, link: Link) -> None:
        link.release()
        self.means.catalogue.targets.release(link.target)
        self.means.catalogue.primaries.note(primary, recovery=None)

    def switch_back(self, ctx: JobContext) -> dict[str, Any]:
        primary = _primary(ctx)
        self._await_moment(ctx)
        row = self.means.catalogue.primaries.find(primary)
        if row.state == State.NORMAL and ctx.notes.get("rebooting"):
            self._clear_after_recovery(primary)
            return {"state": "done before the server was restarted"}
        if row.state == State.RECOVERING:
            self.move(primary, Event.SWITCH_BACK, ctx.job.who)
        for recover in self.means.catalogue.jobs.unfinished(primary, "recover"):
            ctx.progress("finishing the round under way")
            while not self.runner.wait(recover.id, 0).finished:
                ctx.sleep(0.2)
        return self._switch(ctx, primary, machine_name(primary))

    def _switch(self, ctx: JobContext, primary: str, name: str) -> dict[str, Any]:
        link = self._link(primary)
        store = self.means.pool.primary(primary)
        if "began_at" not in ctx.notes:
            ctx.note(began_at=time.time())
        try:
            original = store.need_newest().manifest.machine.to_json()
            times, changes = hand_back(
                ctx, link, self.means.hypervisor, name, lambda: self._final(ctx), original
            )
        except (NotfallError, Cancelled) as error:
            if ctx.notes.get("rebooting"):
                raise
            bring_back_standin(self.means.hypervisor, name)
            self._end_recovery(primary, link)
            self.move(primary, Event.SWITCH_BACK_FAILED, ctx.job.who, str(error) or "cancelled")
            raise
        own = round(sum(times.steps.values()), 2)
        seconds = await_primary(ctx, lambda: self._is_back(primary, ctx.notes["began_at"]))
        result = {
            "version": ctx.notes["final"],
            "steps": {**times.steps, "boot": round(seconds, 1)},
            "own_s": own,
            "downtime_s": round(time.time() - ctx.notes["began_at"], 1),
            "written": ctx.notes.get("written", 0),
            "verified": ctx.notes.get("verified", 0),
            "changes": changes,
        }
        self.move(primary, Event.RECOVERED, ctx.job.who, details=result)
        self._clear_after_recovery(primary)
        return result

    def _clear_after_recovery(self, primary: str) -> None:
        """The primary is back: stand-in and target are history. What was written is a version."""
        self._drop_standin(self.means.pool.primary(primary))
        if recovery := self.means.catalogue.primaries.find(primary).notes.get("recovery"):
            self.means.catalogue.targets.forget(recovery["target"])
            self.means.catalogue.primaries.note(primary, recovery=None)

    def _final(self, ctx: JobContext) -> tuple[str, int]:
        taken = self._capture(ctx)
        return str(taken["version"]), int(taken["bytes_changed"])

    def _await_moment(self, ctx: JobContext) -> None:
        """Wait for the time that was set for the switch-back, if one was."""
        if moment := ctx.parameters.get("at"):
            while (left := datetime.fromisoformat(moment).timestamp() - time.time()) > 0:
                ctx.progress("waiting for the time set")
                ctx.sleep(min(left, 5))

    def _is_back(self, primary: str, since: float) -> bool:
        """Its agent was heard in the role of the primary after the reboot."""
        row = self.means.catalogue.primaries.find(primary)
        heard = row.last_seen is not None and row.last_seen.timestamp() > since
        return heard and row.agent_role == "primary"

    def undo(self, ctx: JobContext) -> dict[str, Any]:
        """The way back; what a stand-in wrote stays as a version."""
        primary = _primary(ctx)
        store = self.means.pool.primary(primary)
        row = self.means.catalogue.primaries.find(primary)
        name = machine_name(primary)
        if row.state == State.SWITCHING_BACK:
            bring_back_standin(self.means.hypervisor, name)
            self._end_recovery(primary, self._link(primary))
            self.move(primary, Event.SWITCH_BACK_FAILED, ctx.job.who, "undone")
            return {"state": str(State.EMERGENCY)}
        if row.state == State.EMERGENCY:
            ctx.progress("stopping the stand-in")
            self.means.hypervisor.shutdown(name)
            if not self.means.hypervisor.wait_off(name, 120):
                self.means.hypervisor.kill(name)
            if store.standin() is not None:
                self._capture(ctx)
            self._drop_standin(store)
            self.move(primary, Event.STANDIN_DROPPED, ctx.job.who, "undone")
        return {"state": self.means.catalogue.primaries.find(primary).state}


def _primary(ctx: JobContext) -> str:
    if ctx.job.primary is None:
        raise NotfallError("internal", f"The job {ctx.job.kind} has no primary.", status=500)
    return ctx.job.primary
