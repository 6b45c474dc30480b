"""What is shown of primaries and pool, gathered from catalogue and pool. Nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from notfallserver.server.cycle import actions
from notfallserver.server.cycle.alarm.alarms import marked
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.normal.forecast import RUNS, Forecast, foresee, past_runs
from notfallserver.server.cycle.normal.limits import LIMITS, read_limits
from notfallserver.server.cycle.normal.line import LINE, read_line
from notfallserver.server.cycle.state import WITH_STANDIN
from notfallserver.server.pool.health import SOUND, Health
from notfallserver.server.pool.layout import stamp_time
from notfallserver.server.pool.proof import Evidence, grade
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.pool.version import Version
from notfallserver.server.records.primaries import Primary
from notfallserver.server.records.rehearsals import Outcome

_SOURCES = {"replication": "agent"}


def versions_of(means: Means, row: Primary) -> Sequence[actions.VersionInfo]:
    """Newest first."""
    if not row.newest_version:
        return []  # the pool knows it from its first run on
    store = means.pool.primary(row.uuid)
    found, known = store.versions(), store.health.all()
    proofs, marks = store.proofs.all(), marked(store, found)
    return [
        replace(
            _info(store, one, one is found[0], known.get(one.stamp, SOUND), proofs.get(one.stamp)),
            suspect=one.stamp in marks,
        )
        for one in found
    ]


def _info(
    store: PrimaryStore, one: Version, newest: bool, health: Health, evidence: Evidence | None
) -> actions.VersionInfo:
    prepared = store.prepared(one.stamp) is not None
    return actions.VersionInfo(
        stamp=one.stamp,
        taken_at=stamp_time(one.stamp),
        source=_SOURCES.get(one.manifest.kind, one.manifest.kind),
        consistency=one.manifest.consistency,
        size=sum(disk.size for disk in one.manifest.disks),
        used=one.bytes_used,
        disks=len(one.manifest.disks),
        newest=newest,
        prepared=prepared,
        damage=_damage(health),
        proof=_proof(evidence),
        grade=grade(evidence, prepared),
        failed_step=evidence.failed_step() if evidence else None,
        evidence=evidence,
        applications=one.manifest.applications,
    )


def _proof(evidence: Evidence | None) -> str:
    """In the words of a rehearsal's outcome."""
    if evidence is None or not evidence.tells_something:
        return ""
    return Outcome.FAILED if evidence.failed_step() else Outcome.PASSED


def pool_state(means: Means) -> actions.PoolState:
    free, size = means.pool.free()
    place = means.place
    return actions.PoolState(
        path=str(place.directory),
        filesystem="XFS image" if place.image else "own filesystem",
        reflink=place.reflink,
        size=size,
        free=free,
        protected=means.pool.protected,
    )


def forecast_of(means: Means, row: Primary) -> Forecast | None:
    """None while too little is known, or a stand-in works."""
    if row.state in WITH_STANDIN or not row.newest_version:
        return None
    versions = means.pool.primary(row.uuid).versions(most=RUNS)
    line = read_line(row.notes.get(LINE))
    return foresee(
        past_runs([one.manifest for one in versions]),
        row.schedule_minutes,
        read_limits(row.notes.get(LIMITS)),
        line.rate if line else 0,
    )


def _damage(health: Health) -> actions.Damage:
    return actions.Damage(
        checked_at=datetime.fromisoformat(health.checked_at) if health.checked_at else None,
        blocks=health.count,
        indexes=len(health.indexes),
        lost=health.lost,
    )
