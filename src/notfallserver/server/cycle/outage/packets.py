"""Ethernet frames that ask who has an address, and the answers. Pure.

ARP probes follow RFC 5227: the sender's IP is 0, so nobody's ARP cache is changed by asking. The
IPv6 question is the one of duplicate address detection (RFC 4862): source ``::``, answered to all
nodes.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

ARP, IPV6 = 0x0806, 0x86DD

_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_NEIGHBOUR = struct.Struct("!BBHI16s")
_SOLICIT, _ADVERT, _ICMPV6 = 135, 136, 58

Answer = tuple[str, str]  # address, MAC


def arp_probe(address: IPv4Address, mac: bytes) -> bytes:
    head = _ETHERNET.pack(b"\xff" * 6, mac, ARP)
    return head + _ARP.pack(1, 0x0800, 6, 4, 1, mac, bytes(4), bytes(6), address.packed)


def read_arp(frame: bytes, own: bytes) -> Answer | None:
    """Who uses an address according to this frame, or is about to (a probe that isn't ours)."""
    if len(frame) < _ETHERNET.size + _ARP.size:
        return None
    hardware, protocol, hlen, plen, _, mac, sender, _, target = _ARP.unpack_from(frame, 14)
    if (hardware, protocol, hlen, plen) != (1, 0x0800, 6, 4) or mac == own:
        return None
    return str(IPv4Address(sender if any(sender) else target)), mac_text(mac)


def neighbour_probe(address: IPv6Address, mac: bytes) -> bytes:
    tail = address.packed[13:]
    group = IPv6Address("ff02::1:ff00:0").packed[:13] + tail
    body = _NEIGHBOUR.pack(_SOLICIT, 0, 0, 0, address.packed)
    pseudo = bytes(16) + group + struct.pack("!II", len(body), _ICMPV6)
    body = body[:2] + struct.pack("!H", _checksum(pseudo + body)) + body[4:]
    return (
        _ETHERNET.pack(b"\x33\x33\xff" + tail, mac, IPV6)
        + struct.pack("!IHBB", 6 << 28, len(body), _ICMPV6, 255)
        + bytes(16)
        + group
        + body
    )


def read_neighbour(frame: bytes, own: bytes) -> Answer | None:
    """Who advertises an address; hop limit 255 proves that it stands on this segment."""
    if len(frame) < 14 + 40 + _NEIGHBOUR.size or frame[20] != _ICMPV6 or frame[21] != 255:
        return None
    kind, _, _, _, target = _NEIGHBOUR.unpack_from(frame, 54)
    if kind != _ADVERT or frame[6:12] == own:
        return None
    return str(IPv6Address(target)), mac_text(frame[6:12])


def mac_text(mac: bytes) -> str:
    return mac.hex(":")


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
