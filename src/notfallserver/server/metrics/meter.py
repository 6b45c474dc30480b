"""Collects the figures. A scrape must cost next to nothing, whatever the number of versions.

What lies in the pool is read again only when a file of it changed; of versions only the newest
one's manifest is read, the others are counted by name. The whole answer holds for some seconds, so
that whoever asks too often is served from memory.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from notfallserver import VERSION
from notfallserver.server.cycle.agentless import is_agentless
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.rehearsals import NOTE
from notfallserver.server.cycle.state import State
from notfallserver.server.health.filling import time_until_full
from notfallserver.server.health.judge import Grade as HealthGrade
from notfallserver.server.health.watch import HealthWatch
from notfallserver.server.metrics.figures import Figures, PrimaryFigures, metrics_of
from notfallserver.server.pool import layout
from notfallserver.server.pool.layout import stamp_time
from notfallserver.server.pool.proof import Grade, Standing, grade, standing
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.records.primaries import Primary
from notfallserver.server.records.receivers import Kind
from notfallserver.server.records.rehearsals import Outcome
from notfallserver.wire.errors import NotfallError

HOLDS_S = 5.0
_HEALTH = {HealthGrade.GOOD: 0, HealthGrade.WARNING: 1, HealthGrade.BAD: 2}


@dataclass(frozen=True)
class PoolFacts:
    """What one primary's part of the pool tells; moments of versions, seconds, bytes."""

    versions: int = 0
    newest: datetime | None = None
    proven: datetime | None = None
    grade: int | None = None
    changed: int | None = None
    run: float | None = None
    freeze: float | None = None
    damaged_blocks: int = 0


class Meter(Collector):
    """One per server. Thread-safe."""

    def __init__(self, means: Means, health: HealthWatch) -> None:
        self._means = means
        self._health = health
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._lock = threading.Lock()
        self._known: dict[str, tuple[tuple[int, ...], PoolFacts]] = {}
        self._figures: Figures | None = None
        self._at = 0.0

    def text(self, accept: str) -> tuple[bytes, str]:
        """All metrics in the format that the asker can read, and its content type."""
        encode, kind = choose_encoder(accept)
        return encode(self._registry), kind

    def describe(self) -> list[Metric]:
        """Nothing beforehand: the registry need not collect to know the names."""
        return []

    def collect(self) -> list[Metric]:
        return list(metrics_of(self.figures()))

    def figures(self) -> Figures:
        with self._lock:
            if self._figures is None or time.monotonic() - self._at > HOLDS_S:
                self._figures = self._measure(datetime.now(UTC))
                self._at = time.monotonic()
            return self._figures

    def _measure(self, now: datetime) -> Figures:
        catalogue = self._means.catalogue
        alarms: dict[str, Counter[str]] = defaultdict(Counter)
        for trouble in catalogue.outbox.troubles():
            if trouble.gone_at is None:
                alarms[trouble.about][trouble.kind] += 1
        rows = catalogue.primaries.all()
        self._known = {one.uuid: self._known[one.uuid] for one in rows if one.uuid in self._known}
        jobs = {"queued": 0, "running": 0, "failed": len(catalogue.jobs.unmended())}
        jobs.update(Counter(one.state for one in catalogue.jobs.unfinished()))
        kinds = tuple(Kind)
        size, free, full_in = self._space(now)
        return Figures(
            version=VERSION,
            states=tuple(State),
            kinds=kinds,
            primaries=tuple(self._primary(row, alarms[row.uuid], now) for row in rows),
            pool_size=size,
            pool_free=free,
            pool_full_in=full_in,
            jobs=jobs,
            health={one.key: _HEALTH[one.grade] for one in self._health.findings},
            alarms={kind: alarms[""][kind] for kind in kinds},
        )

    def _space(self, now: datetime) -> tuple[int | None, int | None, float | None]:
        try:
            free, size = self._means.pool.free()
        except OSError:
            return None, None, None
        full_in = time_until_full(self._means.catalogue.space.samples(), size, free, now)
        return size, free, full_in.total_seconds() if full_in else None

    def _primary(self, row: Primary, alarms: Mapping[str, int], now: datetime) -> PrimaryFigures:
        facts = self._facts(row)
        last = next(iter(self._means.catalogue.rehearsals.of(row.uuid, limit=1)), None)
        if last and last.outcome is Outcome.BROKEN_OFF:
            last = self._means.catalogue.rehearsals.last_telling(row.uuid, now)
        told = row.notes.get(NOTE, {}).get("outcome")
        heard = None if is_agentless(row) or row.last_seen is None else row.last_seen
        return PrimaryFigures(
            name=row.name,
            state=row.state,
            version_age=_age(facts.newest, now),
            proven_version_age=_age(facts.proven, now),
            schedule=row.schedule_minutes * 60.0 or None,
            versions=facts.versions,
            changed=facts.changed,
            run=facts.run,
            freeze=facts.freeze,
            grade=facts.grade,
            rehearsal_passed=int(told == Outcome.PASSED) if told else None,
            rehearsal_age=_age(last.began_at, now) if last else None,
            rehearsal_answered=last.answered_s if last else None,
            heartbeat_age=_age(heard, now),
            damaged_blocks=facts.damaged_blocks,
            alarms=alarms,
        )

    def _facts(self, row: Primary) -> PoolFacts:
        """As known, unless a file changed since."""
        try:
            store = self._means.pool.primary(row.uuid)
        except NotfallError:
            return PoolFacts()  # of a primary that is just being added or removed
        paths = store.paths
        mark = tuple(_changed_ns(one) for one in (paths.versions, paths.proofs, paths.health))
        known = self._known.get(row.uuid)
        if known is None or known[0] != mark:
            known = self._known[row.uuid] = (mark, facts_of(store))
        return known[1]


def facts_of(store: PrimaryStore) -> PoolFacts:
    """Read the names of all versions, the newest manifest, what is known of proof and damage."""
    stamps = {
        one.parent.name
        for one in store.paths.versions.glob(f"*/{layout.MANIFEST}")
        if one.parent.suffix != ".discarded"
    }
    newest, proofs = store.newest(), store.proofs.all()
    there = {stamp: one for stamp, one in proofs.items() if stamp in stamps}
    proven = max((s for s, one in there.items() if standing(one) is Standing.PROVEN), default="")
    last = there[max(there)] if there else None
    damaged = sum(one.count for stamp, one in store.health.all().items() if stamp in stamps)
    manifest = newest.manifest if newest else None
    return PoolFacts(
        versions=len(stamps),
        newest=stamp_time(newest.stamp) if newest else None,
        proven=stamp_time(proven) if proven else None,
        grade=list(Grade).index(grade(last, True)) if last else None,
        changed=manifest.bytes_changed if manifest else None,
        run=_lasted(manifest.started_at, manifest.sealed_at) if manifest else None,
        freeze=manifest.freeze_ms / 1000 if manifest else None,
        damaged_blocks=damaged,
    )


def _lasted(begin: str, end: str) -> float | None:
    try:
        seconds = datetime.fromisoformat(end) - datetime.fromisoformat(begin)
    except (ValueError, TypeError):
        return None
    return max(0.0, seconds.total_seconds())


def _age(moment: datetime | None, now: datetime) -> float | None:
    return max(0.0, (now - moment).total_seconds()) if moment else None


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
