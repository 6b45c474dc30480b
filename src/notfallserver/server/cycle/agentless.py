"""Primaries without an agent: their copies are imported image files.

Nobody calls from such a machine, so its silence says nothing, and what an agent does can't be
ordered. Whether it lives is asked of the network (:mod:`lookout`).
"""

from __future__ import annotations

from notfallserver.server.cycle.outage.guard import Alive, Verdict
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.records.primaries import AGENTLESS, Primary
from notfallserver.wire.errors import NotfallError

IMPORT = "import"
"""A version's kind."""


def is_agentless(row: Primary) -> bool:
    """An agent that is installed later makes it a primary like all others, as soon as it calls."""
    return row.notes.get(AGENTLESS) is True and row.last_seen is None


def refuse_agentless(row: Primary) -> None:
    """What only an agent could do."""
    if is_agentless(row):
        raise NotfallError(
            "no-agent",
            f"{row.name} has no agent: its copies are imported.",
            f"Import a newer image (notfall import {row.name} FILE...), or install an agent on it "
            f"(notfall primary invite {row.name} --again).",
            status=409,
        )


def require_address(row: Primary) -> None:
    """Before it is brought back: by its addresses it is known afterwards that it works."""
    if is_agentless(row) and not (row.machine and row.machine.addresses()):
        raise NotfallError(
            "agentless-no-address",
            f"{row.name} has no agent and no address that is known, so nobody could tell when it "
            "works again on its new machine, and the stand-in can be put away.",
            "Install an agent in the stand-in (notfall primary invite NAME --again), or copy its "
            "disks by hand: notfall files and the version's raw images.",
            status=409,
        )


def was_imported(store: PrimaryStore) -> bool:
    """Whether the pool holds only what was imported, and what was captured since."""
    kinds = {one.manifest.kind for one in store.versions()}
    return IMPORT in kinds and "replication" not in kinds


def answers(verdict: Verdict) -> bool:
    """Whether the original answers under its addresses; a machine of this server counts not."""
    return any(one.about == "primary" and one.alive is Alive.YES for one in verdict.evidence)
