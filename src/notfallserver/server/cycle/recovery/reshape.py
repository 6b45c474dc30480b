"""Reshaped versions, made in the appliance: for targets whose disks don't fit the original's.

A round of a recovery makes one of the capture it is about to send, before the target hears of it:
what does not fit is known before anything is written there. The format is ``pool/reshaped.py``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from notfallserver.server.cycle.runner import JobContext
from notfallserver.server.pool.reshaped import (
    Reshaping,
    Shape,
    drop_reshaped,
    find_reshaped,
    last_reshaped,
)
from notfallserver.server.pool.store import Pool, PrimaryStore
from notfallserver.server.pool.version import Version
from notfallserver.server.rescue_medium import Medium
from notfallserver.server.settings import Settings
from notfallserver.server.vm.appliance import run_appliance
from notfallserver.server.vm.hypervisor import Hypervisor
from notfallserver.server.vm.spec import Accelerator
from notfallserver.wire.errors import NotfallError

MEASURE_LIMIT_S = 600.0
RESHAPE_LIMIT_S = 24 * 3600.0
FITTING = "making it fit the new disks"
SPARE = 256 << 20
"""Bytes that must be free beside what is certainly written."""
Least = dict[tuple[int, int], int]


@dataclass(frozen=True)
class Reshaper:
    """Makes and measures; ``medium`` finds the rescue medium that the appliance starts from."""

    settings: Settings
    hypervisor: Hypervisor
    pool: Pool
    medium: Callable[[], Medium | None]

    def measure(self, store: PrimaryStore, version: Version) -> Least:
        """So small each filesystem can get, by disk and partition; takes seconds to minutes."""
        with store.working_clones(version, "measure") as clones:
            told = self._ask(version, clones.disks, {"task": "measure"}, MEASURE_LIMIT_S)
        try:
            rows = [(int(r["disk"]), int(r["partition"]), int(r["least"])) for r in told["least"]]
        except (KeyError, TypeError, ValueError):
            raise _not_measured("Its answer is not understood.") from None
        return {(disk, partition): least for disk, partition, least in rows if least > 0}

    def make(self, ctx: JobContext, store: PrimaryStore, stamp: str, shape: Shape) -> Version:
        """The reshaped version; made once. Older ones of this primary are removed."""
        if (done := find_reshaped(store, stamp, shape)) is not None:
            return done
        last = last_reshaped(store, shape)
        drop_reshaped(store, but=last.stamp if last else "")
        version = store.version(stamp)
        self._need_room(version, shape)
        with Reshaping(store, version, shape, last) as making:
            changed = making.changed()
            told: dict[int, Mapping[str, Any]] = {}
            if changed:
                ctx.progress(FITTING)
                job = {
                    "task": "reshape",
                    "machine": version.manifest.machine.to_json(),
                    "sources": len(making.sources),
                    "targets": [shape[at]["sources"] for at in changed],
                }
                images = tuple(making.image(at) for at in changed)
                disks = (*making.sources, *images)
                sectors = [
                    version.manifest.machine.disks[shape[at]["sources"][0]].sector for at in changed
                ]
                answer = self._ask(version, disks, job, RESHAPE_LIMIT_S, ctx.check, sectors)
                answers = answer.get("disks")
                if not isinstance(answers, list) or len(answers) != len(changed):
                    raise _not_measured("Its answer is not understood.")
                told = dict(zip(changed, answers, strict=True))
            pieces = making.compose(told)
            sealed = making.seal(pieces, lambda done, total: _tell(ctx, done, total))
        drop_reshaped(store, but=stamp)
        return sealed

    def _need_room(self, version: Version, shape: Shape) -> None:
        """A full pool would leave the appliance standing still."""
        machine, images = version.manifest.machine, version.manifest.disks
        needed = SPARE
        for one in shape:
            sources = one["sources"]
            used = sum(images[at].used for at in sources) << 16
            cut = sum(images[at].size for at in sources) - one["size"]
            if cut <= 0:
                continue
            copied = any(
                part.filesystem == "xfs" for at in sources for part in machine.disks[at].partitions
            )
            needed += used if copied else min(used, cut)
        free, _ = self.pool.free()
        if free < needed:
            raise NotfallError(
                "pool-full",
                f"The pool has {free >> 20} MiB free; making the copy fit the new disks takes up "
                f"to {needed >> 20} MiB.",
                "Remove old versions, or use disks of the original's sizes.",
                status=507,
            )

    def _ask(
        self,
        version: Version,
        disks: tuple[Any, ...],
        job: Mapping[str, Any],
        limit: float,
        check: Callable[[], None] = lambda: None,
        further: list[int] | None = None,
    ) -> dict[str, Any]:
        medium = self.medium()
        if medium is None:
            raise _not_measured("The rescue medium is still being built.")
        answer = run_appliance(
            self.hypervisor,
            medium,
            disks,
            job,
            timeout=limit,
            accelerator=Accelerator(self.settings.accelerator),
            check=check,
            sectors=[*(one.sector for one in version.manifest.machine.disks), *(further or [])],
        )
        if not answer.get("ok"):
            told = answer.get("error")
            raise NotfallError.from_json(told if isinstance(told, dict) else {}, 500)
        return answer


def _tell(ctx: JobContext, done: int, total: int) -> None:
    ctx.check()
    ctx.progress(FITTING, done, total)


def _not_measured(why: str) -> NotfallError:
    return NotfallError(
        "not-measured",
        f"How small the copy's filesystems can get is not known: {why}",
        "Try again in a minute, or use disks of the original's sizes.",
        retry=True,
        status=503,
    )
