"""The guard asked about one primary of this server."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import islice

from notfallserver.server.cycle.choice import wished
from notfallserver.server.cycle.elsewhere import works_elsewhere
from notfallserver.server.cycle.outage.examine import examine
from notfallserver.server.cycle.outage.guard import Verdict
from notfallserver.server.cycle.outage.legs import groups_of
from notfallserver.server.cycle.outage.sounding import read_sounding, telling_ports
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
    claim: bool = False,
) -> Verdict:
    """Is this primary dead, and would this server know? Takes one to two seconds.

    ``claim``: its stand-in starts at once if it is; so that no second server does the same.
    """
    machine = row.machine or pool.primary(row.uuid).need_newest().manifest.machine
    others = [
        address
        for other in primaries.all()
        if other.uuid != row.uuid and other.machine is not None
        for address in other.machine.addresses()
    ]
    seen = read_sounding(row.notes)
    return examine(
        groups_to_ask(pool.primary(row.uuid) if row.newest_version else None, row, machine),
        bridge=settings.lan_bridge,
        ports=telling_ports(machine.ports, seen),
        heartbeat_age=heartbeat_age(row),
        gateway=machine.gateway,
        configured_witnesses=settings.guard.witnesses,
        other_addresses=others,
        seen=seen,
        ignored=settings.guard.ignored_networks,
        fenced_age=fenced_age,
        claim=claim,
    )


def groups_to_ask(
    store: PrimaryStore | None, row: Primary, machine: Machine
) -> tuple[tuple[str, ...], ...]:
    """The addresses of each card of the original, and of what a stand-in has: they differ where
    somebody starts an older copy of before its addresses were changed."""
    machines = [machine]
    if store is not None:
        versions, standin = store.versions(), store.standin()
        meant = {wished(row), standin.version if standin else ""}
        newest = (one.stamp for one in versions if one.manifest.kind != "capture")
        meant |= set(islice(newest, 1))
        machines += [one.manifest.machine for one in versions if one.stamp in meant]
    return tuple(dict.fromkeys(group for one in machines for group in groups_of(one)))


def heartbeat_age(row: Primary) -> float | None:
    """Seconds since the original was heard; None: never, or its agent is our stand-in's.

    That carries the same name, and says nothing about the original. Another server's stand-in is a
    live copy, which forbids a second one as the original does.
    """
    ours = row.agent_role == "stand-in" and not works_elsewhere(row)
    if row.last_seen is None or ours:
        return None
    return (datetime.now(timezone.utc) - row.last_seen).total_seconds()
