"""The guard at work: ask the primary and the witnesses at the same time, then decide."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from notfallserver.server.cycle.outage.guard import Findings, Verdict, decide
from notfallserver.server.cycle.outage.legs import counting, map_groups, map_single, read_legs
from notfallserver.server.cycle.outage.probe import LIMIT, ask, weigh
from notfallserver.server.cycle.outage.witness import find_witnesses


def examine(
    groups: Sequence[Sequence[str]],
    *,
    bridge: str,
    ports: Sequence[int] = (),
    heartbeat_age: float | None,
    heartbeat_limit: float = 15.0,
    gateway: str = "",
    configured_witnesses: Iterable[str] = (),
    other_addresses: Iterable[str] = (),
    seen: Collection[str] = (),
    ignored: Iterable[str] = (),
    fenced_age: float | None = None,
    claim: bool = False,
    limit: float = LIMIT,
) -> Verdict:
    """May the stand-in of a primary start? ``groups`` are the addresses of each of its cards.

    ``bridge`` is the LAN's, ``ports`` those that the primary served, ``heartbeat_age``
    the seconds since its agent was heard (None: never), ``gateway`` its way out,
    ``other_addresses`` those of primaries that are at work, ``seen`` what has answered in peace
    (:attr:`Sighting.name`), ``ignored`` networks that don't count, ``fenced_age`` the seconds
    since it was switched off from afar. ``claim``: the stand-in is about to start. Takes little
    more than ``limit`` seconds when nothing answers.
    """
    groups = counting(groups, ignored)
    addresses = [one for group in groups for one in group]
    legs = read_legs()
    where = map_groups(groups, legs, bridge)
    # A way out that this server can't see tells nothing by its silence.
    near = bool(gateway) and any(leg.own_beside(gateway) for leg in legs)
    witnesses = find_witnesses(
        configured_witnesses, other_addresses, addresses, gateway if near else ""
    )
    there = map_single(witnesses.all, legs, bridge)
    with ThreadPoolExecutor(2, "guard") as threads:
        primary = threads.submit(ask, addresses, where=where, ports=ports, claim=claim, limit=limit)
        others = threads.submit(ask, witnesses.all, where=there, limit=limit)
        return decide(
            Findings(
                weigh(primary.result(), where, seen),
                others.result(),
                heartbeat_age,
                heartbeat_limit,
                fenced_age,
                witnesses.gateways,
            )
        )
