"""Asking on the LAN segment itself: ARP and IPv6 neighbour solicitation on the bridge.

A host that drops every ping must still answer these, or it could not talk to anybody. Works
whether or not the server has an address in the same network. Needs CAP_NET_RAW.
"""

from __future__ import annotations

import ctypes
import json
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address

from notfallserver.server.cycle.outage import packets
from notfallserver.server.host.run import run

_ROUNDS = 3
"""Each address is asked so often: a single frame may get lost while a switch learns."""
_MEMBERSHIP = struct.Struct("iHH8s")
_ALL_MULTICAST = 2  # PACKET_MR_ALLMULTI
_ATTACH_FILTER = 26  # SO_ATTACH_FILTER
_STATEMENT = struct.Struct("=HBBI")
# Load byte 20 (IPv6 next header), 58 (ICMPv6)?; load byte 54 (ICMPv6 type), 136 (advertisement)?
_ADVERTS_ONLY = b"".join(
    _STATEMENT.pack(*one)
    for one in (
        (0x30, 0, 0, 20),
        (0x15, 0, 3, 58),
        (0x30, 0, 0, 54),
        (0x15, 0, 1, 136),
        (0x06, 0, 0, 0xFFFF),
        (0x06, 0, 0, 0),
    )
)

Reader = Callable[[bytes, bytes], "packets.Answer | None"]


def ask_arp(addresses: Sequence[IPv4Address], interface: str, limit: float) -> dict[str, str]:
    """Which addresses are in use on the segment: address -> MAC. Takes ``limit`` seconds at most.

    Raises :class:`OSError` when the segment cannot be asked.
    """
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(packets.ARP)) as link:
        link.bind((interface, packets.ARP))
        mac = link.getsockname()[4]
        frames = [packets.arp_probe(one, mac) for one in addresses]
        return _converse(link, frames, {str(one) for one in addresses}, packets.read_arp, limit)


def ask_neighbours(
    addresses: Sequence[IPv6Address], interface: str, limit: float
) -> dict[str, str]:
    """The same for IPv6."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(packets.IPV6)) as link:
        program = ctypes.create_string_buffer(_ADVERTS_ONLY, len(_ADVERTS_ONLY))
        count = len(_ADVERTS_ONLY) // _STATEMENT.size
        place = ctypes.addressof(program)
        link.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("@HP", count, place))
        link.bind((interface, packets.IPV6))
        index = socket.if_nametoindex(interface)
        link.setsockopt(
            263,  # SOL_PACKET
            1,  # PACKET_ADD_MEMBERSHIP
            _MEMBERSHIP.pack(index, _ALL_MULTICAST, 0, bytes(8)),
        )
        mac = link.getsockname()[4]
        frames = [packets.neighbour_probe(one, mac) for one in addresses]
        wanted = {str(one) for one in addresses}
        return _converse(link, frames, wanted, packets.read_neighbour, limit)


def _converse(
    link: socket.socket, frames: Iterable[bytes], wanted: set[str], read: Reader, limit: float
) -> dict[str, str]:
    """Ask in rounds, collect answers; ends early when every address has answered."""
    found: dict[str, str] = {}
    own = link.getsockname()[4]
    began = time.monotonic()
    link.setblocking(False)
    sent = 0
    while wanted - found.keys():
        passed = time.monotonic() - began
        if passed >= limit:
            break
        if sent < _ROUNDS and passed >= sent * limit / (_ROUNDS + 1):
            for frame in frames:
                link.send(frame)
            sent += 1
        until = sent * limit / (_ROUNDS + 1) if sent < _ROUNDS else limit
        if not select.select([link], [], [], max(0.0, until - passed))[0]:
            continue
        answer = read(link.recv(2048), own)
        if answer and answer[0] in wanted:
            found[answer[0]] = answer[1]
    return found


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
