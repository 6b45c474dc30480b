"""Asking on a network segment itself, by raw frames (Linux; needs CAP_NET_RAW).

A host that drops every ping must still answer these, or it could not talk to anybody. Works
whether or not this host has an address in the same network, or any at all.
"""

from __future__ import annotations

import ctypes
import select
import socket
import struct
import time
from typing import Callable, Dict, FrozenSet, Optional, Sequence, Tuple

from notfallserver.wire import packets
from notfallserver.wire.packets import Answer

ROUNDS = 3
"""Each address is asked so often: a single frame may get lost while a switch learns."""
_SOL_PACKET = 263
_ADD_MEMBERSHIP, _AUXDATA = 1, 8
_PROMISCUOUS, _ALL_MULTICAST = 1, 2
_MEMBERSHIP = struct.Struct("iHH8s")
_ATTACH_FILTER = 26  # SO_ATTACH_FILTER
_STATEMENT = struct.Struct("=HBBI")
_EVERY_PROTOCOL = 3  # ETH_P_ALL: only there the kernel still tells the VLAN of a frame
_OUTGOING = 4  # PACKET_OUTGOING


def _program(*statements: Tuple[int, int, int, int]) -> bytes:
    return b"".join(_STATEMENT.pack(*one) for one in statements)


_FILTERS = {
    # Load half word 12 (type of frame), ARP?
    packets.ARP: _program(
        (0x28, 0, 0, 12), (0x15, 0, 1, packets.ARP), (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0)
    ),
    # IPv6?; load byte 20 (next header), 58 (ICMPv6)?; load byte 54 (type), 136 (advertisement)?
    packets.IPV6: _program(
        (0x28, 0, 0, 12),
        (0x15, 0, 5, packets.IPV6),
        (0x30, 0, 0, 20),
        (0x15, 0, 3, 58),
        (0x30, 0, 0, 54),
        (0x15, 0, 1, 136),
        (0x06, 0, 0, 0xFFFF),
        (0x06, 0, 0, 0),
    ),
}
_AUX = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata
_VLAN_VALID = 1 << 4

Found = Dict[str, FrozenSet[str]]
"""Address -> MACs of those that use it."""


def open_link(interface: str, protocol: int, everything: bool = False) -> socket.socket:
    """Hears ARP, or of IPv6 only advertisements. :class:`OSError` when there is no such interface.

    ``everything``: also what is sent to others, and to VLANs that nobody here belongs to.
    """
    # Without a protocol until it is bound: nothing of other interfaces gets in.
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        code = _FILTERS[protocol]
        program = ctypes.create_string_buffer(code, len(code))
        place = ctypes.addressof(program)
        told = struct.pack("@HP", len(code) // _STATEMENT.size, place)
        link.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, told)
        link.setsockopt(_SOL_PACKET, _AUXDATA, 1)
        link.bind((interface, _EVERY_PROTOCOL))
        index = socket.if_nametoindex(interface)
        kinds = [_PROMISCUOUS] if everything else []
        kinds += [_ALL_MULTICAST] if protocol == packets.IPV6 else []
        for kind in kinds:
            member = _MEMBERSHIP.pack(index, kind, 0, bytes(8))
            link.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, member)
        link.setblocking(False)
    except BaseException:
        link.close()
        raise
    return link


def own_mac(link: socket.socket) -> bytes:
    mac: bytes = link.getsockname()[4]
    return mac


def converse(
    link: socket.socket,
    rounds: Sequence[Sequence[bytes]],
    read: Callable[[bytes], Optional[Answer]],
    limit: float,
    enough: Callable[[Found], bool],
    vlan: int = 0,
) -> Found:
    """Send the frames of each round, the rounds at even intervals; collect what ``read`` makes of
    the answers. Takes ``limit`` seconds, less as soon as it is ``enough``."""
    found: Found = {}
    began = time.monotonic()
    step = limit / (len(rounds) + 1)
    sent = 0
    while not enough(found):
        passed = time.monotonic() - began
        if passed >= limit:
            break
        if sent < len(rounds) and passed >= sent * step:
            for frame in rounds[sent]:
                link.send(packets.in_vlan(frame, vlan))
            sent += 1
        until = sent * step if sent < len(rounds) else limit
        if not select.select([link], [], [], max(0.0, until - passed))[0]:
            continue
        frame, tag = receive(link)
        answer = read(frame) if tag == vlan else None
        if answer is not None:
            found[answer[0]] = found.get(answer[0], frozenset()) | {answer[1]}
    return found


def receive(link: socket.socket) -> Tuple[bytes, int]:
    """A frame and the VLAN it came in; the kernel has taken the tag out of it. What this host
    sent itself is -1."""
    frame, told, _, place = link.recvmsg(2048, socket.CMSG_SPACE(_AUX.size))
    if place[2] == _OUTGOING:
        return frame, -1
    for level, kind, data in told:
        if (level, kind) == (_SOL_PACKET, _AUXDATA) and len(data) >= _AUX.size:
            status, _, _, _, _, tag, _ = _AUX.unpack_from(data)
            return frame, tag & 0xFFF if status & _VLAN_VALID else 0
    return frame, 0
