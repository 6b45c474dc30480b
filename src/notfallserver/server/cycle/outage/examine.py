"""The guard at work: probe the primary and the witnesses at the same time, then decide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from notfallserver.server.cycle.outage.guard import Findings, Verdict, decide
from notfallserver.server.cycle.outage.probe import LIMIT, ask
from notfallserver.server.cycle.outage.witness import find_witnesses


def examine(
    addresses: Sequence[str],
    *,
    interface: str,
    ports: Sequence[int] = (),
    heartbeat_age: float | None,
    heartbeat_limit: float = 15.0,
    configured_witnesses: Iterable[str] = (),
    other_addresses: Iterable[str] = (),
    fenced_age: float | None = None,
    limit: float = LIMIT,
) -> Verdict:
    """May the stand-in of the primary with ``addresses`` start?

    ``interface`` is the LAN's bridge, ``ports`` those that the primary served, ``heartbeat_age``
    the seconds since its agent was heard (None: never), ``other_addresses`` those of primaries
    that are at work, ``fenced_age`` the seconds since it was switched off from afar. Takes little
    more than ``limit`` seconds when nothing answers.
    """
    witnesses = find_witnesses(configured_witnesses, other_addresses, addresses)
    with ThreadPoolExecutor(2, "guard") as threads:
        primary = threads.submit(ask, addresses, interface=interface, ports=ports, limit=limit)
        others = threads.submit(ask, witnesses, interface=interface, limit=limit)
        seen = primary.result(), others.result()
        return decide(Findings(*seen, heartbeat_age, heartbeat_limit, fenced_age))
