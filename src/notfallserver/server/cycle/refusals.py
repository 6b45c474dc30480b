"""When no replication may begin, said in words (each raises :class:`NotfallError`)."""

from __future__ import annotations

from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.runner import JobRunner
from notfallserver.server.cycle.state import WITH_STANDIN, State
from notfallserver.server.pool.scrub import may_build_on
from notfallserver.server.records.primaries import Primary
from notfallserver.wire.errors import NotfallError


def refuse_beside_standin(row: Primary) -> None:
    if State(row.state) in WITH_STANDIN:
        raise NotfallError(
            "stand-in-works",
            f"A stand-in does the work of {row.name} (state '{row.state}'); a replication of "
            "the original would go back behind what was written there.",
            "Bring the primary back with 'notfall recover', or give the stand-in up with "
            "'notfall undo'.",
            status=409,
        )


def refuse_importing(means: Means, row: Primary) -> None:
    for job in means.catalogue.jobs.unfinished(row.uuid, "seed_import"):
        raise NotfallError(
            "job-conflict",
            f"A seed of {row.name} is being imported (job {job.id}).",
            "Replicate when that is done.",
            retry=True,
            status=409,
        )


def refuse_broken_index(means: Means, runner: JobRunner, row: Primary) -> None:
    """A new version takes over its base's index: a broken one must be mended before."""
    store = means.pool.add_primary(row.uuid, row.name)
    newest = store.newest()
    if newest is None:
        return
    health = store.health.of(newest.stamp)
    known = health.indexes if health.checked_at else ()  # their blocks in doubt are known, too
    wrong = [
        one.index
        for one in newest.manifest.disks
        if one.index not in known and not may_build_on(newest, one)
    ]
    if wrong:
        job = runner.submit("scrub", row.uuid, {"version": newest.stamp}, "server", join=True)
        raise NotfallError(
            "version-damaged",
            f"The block index of the newest version {newest.stamp} is damaged (disk "
            f"{wrong[0]}); it is being mended.",
            f"Run it again when that is done: notfall jobs --follow {job.id}",
            status=409,
        )
