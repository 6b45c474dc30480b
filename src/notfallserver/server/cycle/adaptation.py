"""What the adaptation of a copy would change, before anything is changed.

Planned in the appliance on a clone that is thrown away: for the stand-in, or for a target that is
to become the primary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from notfallserver.guest.hardware import own_hardware
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.normal.prepare import adapt_clones
from notfallserver.server.cycle.runner import JobContext, JobRunner
from notfallserver.server.cycle.standin import describe_standin, hardware_of
from notfallserver.server.cycle.work import Work
from notfallserver.server.records.jobs import Job
from notfallserver.server.records.primaries import Primary
from notfallserver.wire.facts import Machine

KIND = "plan_adaptation"


@dataclass(frozen=True)
class Adaptations:
    """One per server."""

    means: Means
    runner: JobRunner
    work: Work
    disks_of: Callable[[Primary, str], list[str]]
    """Names of those disks of a target, by its code, that a recovery would write to."""

    def register(self) -> None:
        self.runner.register(KIND, self.plan)

    def begin(self, row: Primary, who: str, version: str, code: str) -> Job:
        """``version``: empty for the one that would be taken; ``code``: of a target, empty for the
        stand-in."""
        store = self.means.pool.primary(row.uuid)
        newest = store.need_current() if code else store.need_best()
        chosen = store.version(version) if version else newest
        wish: dict[str, Any] = {"version": chosen.stamp, "hardware": {}}
        if code:
            wish["hardware"] = self._target(row, code, chosen.manifest.machine)
        return self.runner.submit(KIND, row.uuid, wish, who)

    def _target(self, row: Primary, code: str, original: Machine) -> dict[str, Any]:
        there = self.means.catalogue.targets.by_code(code).machine
        return asdict(own_hardware(original, there, self.disks_of(row, code), ""))

    def plan(self, ctx: JobContext) -> dict[str, Any]:
        store = self.means.pool.primary(ctx.primary)
        version = store.version(ctx.parameters["version"])
        machine = version.manifest.machine
        ctx.progress("waiting for other images")
        medium = self.work.medium(ctx)
        with self.work.appliances, store.working_clones(version, f"plan-{ctx.job.id}") as clones:
            ctx.progress("adapting in the appliance")
            hardware = ctx.parameters["hardware"]
            if not hardware:
                spec = describe_standin(self.means.settings, store.uuid, machine, clones.disks)
                hardware = hardware_of(spec, machine)
            job = {"hardware": hardware, "plan": True}
            means = self.means
            told = adapt_clones(
                means.settings, means.hypervisor, medium, clones, machine, job, ctx.check
            )
        return {"version": version.stamp, "hardware": hardware, **told}
