"""Which networks this server stands in, and what its silence there tells.

A *leg* is an interface of the server with its addresses: the LAN's bridge, one for each VLAN, the
card of another network. Silence tells something only where an answer would be heard: on a leg, or
where the address has answered before, in peace. Elsewhere an answer still is a sign of life.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    ip_address,
    ip_interface,
)
from typing import Any

from notfallserver.server.host.run import run
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine


@dataclass(frozen=True)
class Leg:
    """``addresses`` with their networks; link-local ones are none."""

    name: str
    addresses: tuple[IPv4Interface | IPv6Interface, ...] = ()

    def own_beside(self, address: str) -> str:
        """This server's own address in the network of ``address``; empty if there is none.

        What is no address (agents tell it) lies in no network.
        """
        try:
            wanted = ip_address(address)
        except ValueError:
            return ""
        for one in self.addresses:
            if one.version == wanted.version and wanted in one.network:
                return str(one.ip)
        return ""


@dataclass(frozen=True)
class Place:
    """Where an address is asked; ``own`` asks, where it is an address of the same network.

    ``near``: on this leg an answer would be heard. ``interface`` empty: on no segment.
    """

    interface: str
    own: str = ""
    near: bool = True


@dataclass(frozen=True)
class Map:
    """Where each address is asked; one that isn't in it, like ``other``."""

    places: Mapping[str, Place] = field(default_factory=dict)
    other: Place = Place("")

    def of(self, address: str) -> Place:
        return self.places.get(address, self.other)


def read_legs() -> tuple[Leg, ...]:
    """Of this host. Only what ARP and neighbour solicitation can be asked on."""
    return legs_of(json.loads(run(["ip", "-j", "address", "show", "up"], timeout=5).out or "[]"))


def legs_of(told: Sequence[Mapping[str, Any]]) -> tuple[Leg, ...]:
    """From ``ip -j address``; pure."""
    found = []
    for one in told:
        if one.get("link_type") != "ether" or "NOARP" in one.get("flags", ()):
            continue
        addresses = tuple(
            ip_interface(f"{item['local']}/{item['prefixlen']}")
            for item in one.get("addr_info", ())
            if item.get("scope") == "global" and "local" in item
        )
        if addresses:
            found.append(Leg(str(one["ifname"]), addresses))
    return tuple(found)


def near_addresses(bridge: str) -> list[str]:
    """Link-local addresses under which this server can be reached on its segments, for a machine
    that must not use its own; the LAN's bridge first."""
    try:
        told = json.loads(run(["ip", "-j", "address", "show", "up"], timeout=5).out or "[]")
    except NotfallError:
        return []
    legs = {leg.name for leg in legs_of(told)} | {bridge}
    found = [
        (str(one["ifname"]), str(item["local"]))
        for one in told
        if one.get("ifname") in legs
        for item in one.get("addr_info", ())
        if item.get("scope") == "link" and item.get("family") == "inet6" and "local" in item
    ]
    return [address for name, address in sorted(found, key=lambda one: one[0] != bridge)][:8]


def map_groups(groups: Iterable[Sequence[str]], legs: Sequence[Leg], bridge: str) -> Map:
    """The addresses of one card are on one segment: where one of them is near, all are.

    What is near no leg is asked on the LAN's bridge: a server without an address of its own in
    the LAN hears answers there as well.
    """
    # The LAN's bridge first: stand-ins will be there.
    ordered = sorted(legs, key=lambda leg: leg.name != bridge)
    places: dict[str, Place] = {}
    for group in groups:
        near = [leg for leg in ordered if any(leg.own_beside(one) for one in group)]
        for address in group:
            own = [leg for leg in near if leg.own_beside(address)]
            if own:
                places[address] = Place(own[0].name, own[0].own_beside(address))
            elif near:
                places[address] = Place(near[0].name)
            else:
                places[address] = Place(bridge, near=False)
    return Map(places, Place(bridge, near=False))


def groups_of(machine: Machine) -> tuple[tuple[str, ...], ...]:
    """The addresses of each card of a machine, without prefix length and link-local ones."""
    found = []
    for nic in machine.nics:
        plain = [one.split("/", maxsplit=1)[0] for one in nic.addresses]
        group = tuple(one for one in plain if not one.lower().startswith("fe80:"))
        if group:
            found.append(group)
    return tuple(found)


def counting(groups: Iterable[Sequence[str]], ignored: Iterable[str]) -> list[list[str]]:
    """Without the addresses in networks that don't count."""
    legs = [Leg("", (ip_interface(one),)) for one in ignored]
    return [
        [one for one in group if not any(leg.own_beside(one) for leg in legs)] for group in groups
    ]


def map_single(addresses: Iterable[str], legs: Sequence[Leg], bridge: str) -> Map:
    """The same for addresses of which nothing more is known; a zone (``fe80::1%br0``) names the
    leg."""
    zoned = {one: Place(one.split("%", 1)[1]) for one in addresses if "%" in one}
    plain = map_groups(([one] for one in addresses if "%" not in one), legs, bridge)
    return Map({**plain.places, **zoned}, plain.other)


def without_zone(address: str) -> IPv6Address:
    return IPv6Address(address.split("%", 1)[0])
