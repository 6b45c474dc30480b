"""When no replication may begin, said in words (each raises :class:`NotfallError`)."""

from __future__ import annotations

from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.runner import JobRunner
from notfallserver.server.cycle.state import WITH_STANDIN, State
from notfallserver.server.pool.scrub import may_build_on
from notfallserver.server.records.primaries import Primary
from notfallserver.wire.errors import NotfallError

IMPORTS = frozenset({"seed_import", "image_import"})


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


def awaits_restore(means: Means, row: Primary) -> bool:
    """Whether its first version here is being brought back from an off-load: a replication before
    that would send everything anew. Where there is a version already, neither waits."""
    if row.newest_version:
        return False
    return bool(means.catalogue.jobs.unfinished(row.uuid, "offload_restore"))


def refuse_importing(means: Means, row: Primary) -> None:
    for job in means.catalogue.jobs.unfinished(row.uuid):
        awaited = job.kind == "offload_restore" and not row.newest_version
        if job.kind not in IMPORTS and not awaited:
            continue
        raise NotfallError(
            "job-conflict",
            f"A first copy of {row.name} is being brought here (job {job.id}).",
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
