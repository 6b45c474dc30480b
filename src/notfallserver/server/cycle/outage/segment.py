"""Asking on the segments that this server is connected to: ARP and IPv6 neighbour solicitation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from notfallserver.server.host.run import run
from notfallserver.wire import packets
from notfallserver.wire.segment import ROUNDS, Found, converse, open_link, own_mac

_NOBODY = IPv4Address(0)


def ask_arp(
    addresses: Sequence[IPv4Address],
    interface: str,
    limit: float,
    senders: Sequence[IPv4Address] = (),
) -> Found:
    """Which addresses are in use on the segment. Takes ``limit`` seconds at most.

    ``senders`` says for each address which of this server's own addresses asks; without one it
    is a probe. Raises :class:`OSError` when the segment cannot be asked.
    """
    with open_link(interface, packets.ARP) as link:
        mac = own_mac(link)
        asking = [*senders, *(_NOBODY for _ in addresses[len(senders) :])]
        frames = [
            packets.arp_question(one, mac, sender)
            for one, sender in zip(addresses, asking, strict=True)
        ]
        wanted = {str(one) for one in addresses}

        def read(frame: bytes) -> packets.Answer | None:
            answer = packets.read_arp(frame, mac)
            return answer if answer and answer[0] in wanted else None

        return converse(link, [frames] * ROUNDS, read, limit, lambda found: found.keys() == wanted)


def ask_neighbours(addresses: Sequence[IPv6Address], interface: str, limit: float) -> Found:
    """The same for IPv6; never a probe: a machine that is starting would give its address up."""
    with open_link(interface, packets.IPV6) as link:
        mac = own_mac(link)
        frames = [packets.neighbour_question(one, mac) for one in addresses]
        wanted = {str(IPv6Address(one.packed)) for one in addresses}  # without a zone

        def read(frame: bytes) -> packets.Answer | None:
            answer = packets.read_neighbour(frame, mac)
            return answer if answer and answer[0] in wanted else None

        return converse(link, [frames] * ROUNDS, read, limit, lambda found: found.keys() == wanted)


def macs_of_our_machines(bridge: str) -> frozenset[str]:
    """MACs that this bridge knows behind taps, that is of virtual machines of this server.

    The stand-in has its primary's MAC, so only the port tells whose answer it was.
    """
    ports = json.loads(run(["ip", "-d", "-j", "link", "show", "master", bridge], timeout=5).out)
    taps = {one["ifname"] for one in ports if one.get("linkinfo", {}).get("info_kind") == "tun"}
    if not taps:
        return frozenset()
    known = json.loads(run(["bridge", "-j", "fdb", "show", "br", bridge], timeout=5).out)
    # A tap's own entry is permanent and differs from the guest's, which is learned.
    return frozenset(
        one["mac"] for one in known if one.get("ifname") in taps and one.get("state") != "permanent"
    )
