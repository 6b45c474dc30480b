"""The guard asked about one primary of this server."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import islice

from notfallserver.server.cycle.choice import wished
from notfallserver.server.cycle.elsewhere import works_elsewhere
from notfallserver.server.cycle.outage.examine import examine
from notfallserver.server.cycle.outage.guard import Verdict
from notfallserver.server.pool.store import Pool, PrimaryStore
from notfallserver.server.records.primaries import Primaries, Primary
from notfallserver.server.settings import Settings
from notfallserver.wire.facts import Machine


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
        addresses_to_ask(pool.primary(row.uuid) if row.newest_version else None, row, machine),
        interface=settings.lan_bridge,
        ports=machine.ports[:8],
        heartbeat_age=heartbeat_age(row),
        configured_witnesses=settings.guard.witnesses,
        other_addresses=others,
        fenced_age=fenced_age,
    )


def addresses_to_ask(store: PrimaryStore | None, row: Primary, machine: Machine) -> list[str]:
    """Of the original, and of what a stand-in has: they differ where somebody starts an older copy
    of before its addresses were changed."""
    found = machine.addresses()
    if store is None:
        return found
    versions, standin = store.versions(), store.standin()
    meant = {wished(row), standin.version if standin else ""}
    newest = (one.stamp for one in versions if one.manifest.kind == "replication")
    meant |= set(islice(newest, 1))
    for version in versions:
        if version.stamp in meant:
            found += version.manifest.machine.addresses()
    return list(dict.fromkeys(found))


def heartbeat_age(row: Primary) -> float | None:
    """Seconds since the original was heard; None: never, or its agent is our stand-in's.

    That carries the same name, and says nothing about the original. Another server's stand-in is a
    live copy, which forbids a second one as the original does.
    """
    ours = row.agent_role == "stand-in" and not works_elsewhere(row)
    if row.last_seen is None or ours:
        return None
    return (datetime.now(timezone.utc) - row.last_seen).total_seconds()
