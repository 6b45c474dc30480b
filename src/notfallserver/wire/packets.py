"""Ethernet frames that ask who has an address, and the answers. Pure.

There are two ways of asking. A *question* comes from somebody who has an address, and disturbs
nobody. A *probe* (RFC 5227, RFC 4862) is that of a machine which is about to use the address: its
sender is 0 or ``::``; who has the address answers, and who is about to use it as well gives way.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Optional, Tuple

ARP, IPV6 = 0x0806, 0x86DD
EVERYBODY = b"\xff" * 6

_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_NEIGHBOUR = struct.Struct("!BBHI16s")
_SOLICIT, _ADVERT, _ICMPV6 = 135, 136, 58
_VLAN = 0x8100
_NOBODY = IPv4Address(0)

Answer = Tuple[str, str]  # address, MAC


def arp_question(
    address: IPv4Address,
    mac: bytes,
    sender: IPv4Address = _NOBODY,
    answer_to: bytes = b"",
) -> bytes:
    """A probe where ``sender`` is 0.

    ``answer_to`` names another card for the answer than ``mac``, which the frame comes from. A
    machine that has our own MAC can only be heard so: no switch sends what comes from a MAC on to
    the same MAC.
    """
    head = _ETHERNET.pack(EVERYBODY, mac, ARP)
    asked = (bytes(6), address.packed)
    return head + _ARP.pack(1, 0x0800, 6, 4, 1, answer_to or mac, sender.packed, *asked)


def read_arp(frame: bytes, own: bytes) -> Optional[Answer]:
    """Who uses an address according to this frame, or is about to (a probe that isn't ours)."""
    told = _read_arp(frame)
    if told is None or told[0] == own:
        return None
    mac, sender, target = told
    return str(IPv4Address(sender if any(sender) else target)), mac_text(mac)


def read_arp_user(frame: bytes) -> Optional[Answer]:
    """Who uses an address, whatever its MAC; probes, by whomever, are no use."""
    told = _read_arp(frame)
    if told is None or not any(told[1]):
        return None
    return str(IPv4Address(told[1])), mac_text(told[0])


def _read_arp(frame: bytes) -> Optional[Tuple[bytes, bytes, bytes]]:
    """The sender's MAC and address, and the address that is asked for."""
    if len(frame) < _ETHERNET.size + _ARP.size:
        return None
    hardware, protocol, hlen, plen, _, mac, sender, _, target = _ARP.unpack_from(frame, 14)
    if (hardware, protocol, hlen, plen) != (1, 0x0800, 6, 4):
        return None
    return mac, sender, target


def neighbour_probe(address: IPv6Address, mac: bytes) -> bytes:
    """Answered to all nodes; one that is about to use the address gives it up."""
    return _solicit(address, mac, bytes(16), b"")


def neighbour_question(address: IPv6Address, mac: bytes) -> bytes:
    """From the link-local address that belongs to ``mac``, and answered to that card.

    Whether the host really has that address does not matter: the card is told along with it.
    """
    return _solicit(address, mac, link_local(mac).packed, b"\1\1" + mac)


def link_local(mac: bytes) -> IPv6Address:
    """The address that a card with this MAC gives itself (RFC 4291, appendix A)."""
    tail = bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
    return IPv6Address(b"\xfe\x80" + bytes(6) + tail)


def _solicit(address: IPv6Address, mac: bytes, sender: bytes, option: bytes) -> bytes:
    tail = address.packed[13:]
    group = IPv6Address("ff02::1:ff00:0").packed[:13] + tail
    body = _NEIGHBOUR.pack(_SOLICIT, 0, 0, 0, address.packed) + option
    pseudo = sender + group + struct.pack("!II", len(body), _ICMPV6)
    body = body[:2] + struct.pack("!H", _checksum(pseudo + body)) + body[4:]
    return (
        _ETHERNET.pack(b"\x33\x33\xff" + tail, mac, IPV6)
        + struct.pack("!IHBB", 6 << 28, len(body), _ICMPV6, 255)
        + sender
        + group
        + body
    )


def read_neighbour(frame: bytes, own: bytes) -> Optional[Answer]:
    """Who advertises an address; hop limit 255 proves that it stands on this segment."""
    if len(frame) < 14 + 40 + _NEIGHBOUR.size or frame[20] != _ICMPV6 or frame[21] != 255:
        return None
    kind, _, _, _, target = _NEIGHBOUR.unpack_from(frame, 54)
    if kind != _ADVERT or frame[6:12] == own:
        return None
    return str(IPv6Address(target)), mac_text(frame[6:12])


def in_vlan(frame: bytes, vlan: int) -> bytes:
    """The frame with the tag of a VLAN; 0 is none."""
    if not vlan:
        return frame
    return frame[:12] + struct.pack("!HH", _VLAN, vlan) + frame[12:]


def mac_text(mac: bytes) -> str:
    return mac.hex(":")


def mac_bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
