"""A lost emergency server made again on another machine: what must be refused, asked and settled.

The order: nothing is written before everything was looked at; the catalogue is put in place last,
so that a rebuild that was broken off begins anew. The versions themselves are then brought by jobs
of the new server, the most important primary first, each with its newest version.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from notfallserver.server.cycle.emergency.capture import capture
from notfallserver.server.cycle.offloads.restores import REBUILD, RESTORE
from notfallserver.server.cycle.state import WITH_STANDIN, Event, State, next_state
from notfallserver.server.offload.own import CATALOGUE
from notfallserver.server.offload.restic import Snapshot
from notfallserver.server.pool.store import Pool
from notfallserver.server.records import Catalogue
from notfallserver.server.records.primaries import Primary
from notfallserver.wire.client import tls_context
from notfallserver.wire.errors import NotfallError

LOOK_S = 3.0
_WHY = "the emergency server was lost and made again"

_LEFT: Mapping[State, tuple[Event, ...]] = {
    State.ACTIVATING: (Event.ACTIVATION_FAILED,),
    State.EMERGENCY: (Event.STANDIN_DROPPED,),
    State.RECOVERING: (Event.RECOVERY_FAILED, Event.STANDIN_DROPPED),
    State.SWITCHING_BACK: (Event.SWITCH_BACK_FAILED, Event.STANDIN_DROPPED),
    State.REHEARSING: (Event.REHEARSAL_ENDED,),
    State.HANDING_OVER: (Event.HANDOVER_FAILED,),
}
"""How a primary leaves a state that lived in the lost server's memory."""


@dataclass(frozen=True)
class Settled:
    """``outage``: primaries whose stand-in went down with the server; nothing starts them."""

    primaries: tuple[str, ...]
    outage: tuple[str, ...]


def refuse_over_existing(data_dir: Path, pool: Path, from_pool: bool) -> None:
    """A rebuild makes a server where there is none; it never replaces one."""
    for path in (data_dir / CATALOGUE, *(() if from_pool else (data_dir / "ca",))):
        if path.exists():
            raise NotfallError(
                "server-exists",
                f"There is an emergency server in {data_dir} already ({path.name}).",
                "Rebuild on an empty machine. If it was only set up by mistake and protects "
                f"nobody, move {data_dir} away first.",
                status=409,
            )
    if not from_pool and any(pool.glob("*/versions/*/manifest.json")):
        raise NotfallError(
            "pool-not-empty",
            f"The pool {pool} holds versions already.",
            "Rebuild from that pool: notfall server rebuild --from-pool. What lies elsewhere can "
            "be brought back afterwards.",
            status=409,
        )


def find_alive(urls: Sequence[str], ca_pem: str) -> str:
    """The address at which the lost server still answers; empty where it does not.

    It is known by its certificate, so another machine under its old address is not taken for it.
    """
    context = tls_context(ca_pem)
    for url in urls:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
        try:
            with socket.create_connection((host, port), LOOK_S) as line:
                line.settimeout(LOOK_S)
                with context.wrap_socket(line, server_hostname=host):
                    return url
        except (OSError, ValueError):  # an SSL error is an OSError
            continue
    return ""


def settle(catalogue: Catalogue, pool: Pool) -> Settled:
    """What the lost server was about is over; what its pool holds is what counts."""
    lost = NotfallError(
        "server-lost",
        "The emergency server that did this was lost.",
        "Begin it again, if it is still wanted.",
    )
    for job in catalogue.jobs.unfinished():
        catalogue.jobs.finish(job.id, "failed", error=lost)
    outage = []
    rows = catalogue.primaries.all()
    for row in rows:
        store = pool.add_primary(row.uuid, row.name)
        standin = store.standin()
        if standin is not None and store.newest() is not None:
            # Its disks are there, and hold what nobody else has.
            made = capture(store, standin, nullcontext(), "crash").version
            details = {"version": made.stamp, "kind": "capture"}
            catalogue.journal.write(row.uuid, "version", REBUILD, details=details)
            store.retire_standin()
        newest = store.newest()
        catalogue.primaries.new_version(row.uuid, newest.stamp if newest else "")
        if State(row.state) in WITH_STANDIN:
            outage.append(row.name)
        _leave(catalogue, row)
        catalogue.primaries.note(row.uuid, recovery=None)
    catalogue.journal.write(None, "server-rebuilt", REBUILD, details={"primaries": len(rows)})
    return Settled(tuple(one.name for one in rows), tuple(outage))


def _leave(catalogue: Catalogue, row: Primary) -> None:
    state = State(row.state)
    for event in _LEFT.get(state, ()):
        after = next_state(state, event)
        catalogue.primaries.move(row.uuid, state, after, event, REBUILD, _WHY)
        state = after


def order_restores(
    catalogue: Catalogue,
    contents: Sequence[Snapshot],
    parameters: Mapping[str, Any],
    only: Sequence[str] = (),
) -> list[str]:
    """Queue the newest version of each primary, or of some; the server brings them when it runs.

    First those that are first in the start plan. Returns their names; those of which the place
    holds nothing are left out.
    """
    there = {one.primary for one in contents if one.primary}
    wanted = {catalogue.primaries.find(one).uuid for one in only}
    named = []
    for row in _in_order(catalogue):
        if row.uuid in there and (not wanted or row.uuid in wanted):
            catalogue.jobs.add(RESTORE, row.uuid, dict(parameters), REBUILD)
            named.append(row.name)
    return named


def _in_order(catalogue: Catalogue) -> Iterator[Primary]:
    for place in catalogue.start_plan.all():
        yield catalogue.primaries.find(place.primary)
