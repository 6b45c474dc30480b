"""The guard asked about one primary of this server."""

from __future__ import annotations

from datetime import datetime, timezone

from notfallserver.server.cycle.elsewhere import works_elsewhere
from notfallserver.server.cycle.outage.examine import examine
from notfallserver.server.cycle.outage.guard import Verdict
from notfallserver.server.pool.store import Pool
from notfallserver.server.records.primaries import Primaries, Primary
from notfallserver.server.settings import Settings


def examine_primary(
    settings: Settings,
    pool: Pool,
    primaries: Primaries,
    row: Primary,
    fenced_age: float | None = None,
) -> Verdict:
    """Is this primary dead, and would this server know? Takes one to two seconds."""
    machine = row.machine or pool.primary(row.uuid).need_newest().manifest.machine
    others = [
        address
        for other in primaries.all()
        if other.uuid != row.uuid and other.machine is not None
        for address in other.machine.addresses()
    ]
    return examine(
        machine.addresses(),
        interface=settings.lan_bridge,
        ports=machine.ports[:8],
        heartbeat_age=heartbeat_age(row),
        configured_witnesses=settings.guard.witnesses,
        other_addresses=others,
        fenced_age=fenced_age,
    )


def heartbeat_age(row: Primary) -> float | None:
    """Seconds since the original was heard; None: never, or its agent is our stand-in's.

    That carries the same name, and says nothing about the original. Another server's stand-in is a
    live copy, which forbids a second one as the original does.
    """
    ours = row.agent_role == "stand-in" and not works_elsewhere(row)
    if row.last_seen is None or ours:
        return None
    return (datetime.now(timezone.utc) - row.last_seen).total_seconds()
