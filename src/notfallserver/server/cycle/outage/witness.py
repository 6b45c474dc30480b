"""Witnesses: machines whose answer shows that the server itself is not cut off.

The default gateways, other primaries, and the addresses named in the settings. The server's own
addresses and those of the primary in question prove nothing.

Gateways weigh more than the others: users, and whoever works for them, are where the way out is.
A server that hears other machines but no gateway may stand on the wrong side of a cut.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from notfallserver.server.host.run import run


@dataclass(frozen=True)
class Witnesses:
    """``gateways`` are those that count, among ``all``; link-local ones have their interface as
    zone."""

    all: tuple[str, ...]
    gateways: frozenset[str]


def find_witnesses(
    configured: Iterable[str],
    others: Iterable[str],
    primary: Iterable[str],
    gateway: str = "",
    most: int = 16,
) -> Witnesses:
    """At most ``most`` addresses, the most telling first.

    ``gateway`` is the primary's own way out, if this server can see it: then that one counts, and
    not those of this host, which may lead out of another network.
    """
    useless = {ip_address(one) for one in (*primary, *_own_addresses())}

    def usable(given: Iterable[str]) -> list[str]:
        wanted = [ip_address(one) for one in given]
        return [str(one) for one in wanted if one not in useless]

    own, its = usable(all_gateways()), usable([gateway] if gateway else [])
    chosen = dict.fromkeys([*usable(configured), *its, *own, *usable(others)])
    return Witnesses(tuple(chosen)[:most], frozenset(its or own))


def default_gateways() -> list[str]:
    """Of IPv4 and IPv6, without link-local ones."""
    return [one for one in all_gateways() if "%" not in one]


def all_gateways() -> list[str]:
    """Link-local ones, as most are in IPv6, with the interface that leads to them as zone."""
    hops = [
        hop
        for family in ("-4", "-6")
        for route in json.loads(
            run(["ip", family, "-j", "route", "show", "default"], timeout=5).out or "[]"
        )
        for hop in (route, *route.get("nexthops", ()))
    ]
    return list(dict.fromkeys(_gateway(hop) for hop in hops if "gateway" in hop))


def _gateway(hop: dict[str, Any]) -> str:
    address = str(hop["gateway"])
    return f"{address}%{hop['dev']}" if address.lower().startswith("fe80:") else address


def _own_addresses() -> set[str]:
    links = json.loads(run(["ip", "-j", "address", "show"], timeout=5).out)
    return {str(one["local"]) for link in links for one in link["addr_info"] if "local" in one}
