"""How the versions of a primary stand just now: the facts, and the plan they come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.retention.deletions import Deletion, read_deletions
from notfallserver.server.cycle.retention.in_use import Use, Users
from notfallserver.server.cycle.retention.plan import Past, Plan, plan_retention
from notfallserver.server.cycle.retention.rules import Rules, rules_of
from notfallserver.server.cycle.state import State
from notfallserver.server.pool.health import SOUND
from notfallserver.server.pool.pins import Pin
from notfallserver.server.pool.proof import standing
from notfallserver.server.records.primaries import Primary


@dataclass(frozen=True)
class View:
    """One look. All by stamp; ``stamps`` are newest first."""

    rules: Rules
    stamps: tuple[str, ...]
    plan: Plan
    uses: Mapping[str, set[Use]]
    pins: Mapping[str, Mapping[str, Pin]]
    deletions: Mapping[str, Deletion]
    normal: bool


@dataclass(frozen=True)
class Survey:
    """Looks."""

    means: Means
    users: Users

    def of(self, row: Primary, rules: Rules | None = None) -> View:
        """By its own rules, or by others to see what these would do."""
        store = self.means.pool.primary(row.uuid)
        chosen = rules or rules_of(self.means.present(), row.notes)
        pins, uses = store.pins.all(), self.users.of(row)
        health, proofs = store.health.all(), store.proofs.all()
        stamps = tuple(one.stamp for one in store.versions())
        past = [
            Past(
                stamp,
                standing(proofs.get(stamp)),
                sound=not health.get(stamp, SOUND).damaged,
                pinned=bool(pins.get(stamp)),
                in_use=bool(uses.get(stamp)),
            )
            for stamp in stamps
        ]
        normal = row.state == State.NORMAL
        plan = plan_retention(past, chosen, datetime.now(timezone.utc), normal)
        return View(chosen, stamps, plan, uses, pins, read_deletions(row.notes), normal)
