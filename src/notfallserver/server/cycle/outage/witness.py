"""Witnesses: machines whose answer shows that the server itself is not cut off.

The default gateways, other primaries, and the addresses named in the settings. The server's own
addresses and those of the primary in question prove nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from ipaddress import ip_address

from notfallserver.server.host.run import run


def find_witnesses(
    configured: Iterable[str], others: Iterable[str], primary: Iterable[str], most: int = 16
) -> tuple[str, ...]:
    """At most ``most`` addresses, the most telling first."""
    useless = {ip_address(one) for one in (*primary, *_own_addresses())}
    wanted = [ip_address(one) for one in (*configured, *default_gateways(), *others)]
    return tuple(dict.fromkeys(str(one) for one in wanted if one not in useless))[:most]


def default_gateways() -> list[str]:
    """Of IPv4 and IPv6; link-local ones are left out, they need an interface to be asked."""
    routes = [
        route
        for family in ("-4", "-6")
        for route in json.loads(
            run(["ip", family, "-j", "route", "show", "default"], timeout=5).out or "[]"
        )
    ]
    gateways = [str(route["gateway"]) for route in routes if "gateway" in route]
    return [one for one in gateways if not one.lower().startswith("fe80:")]


def _own_addresses() -> set[str]:
    links = json.loads(run(["ip", "-j", "address", "show"], timeout=5).out)
    return {str(one["local"]) for link in links for one in link["addr_info"] if "local" in one}
