"""Network cards with their addresses, from what GetAdaptersAddresses writes. Pure.

It writes a linked list of IP_ADAPTER_ADDRESSES_LH with absolute pointers into the same memory; the
parser gets the bytes and the address at which they lay. Offsets are those of 64-bit Windows.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, Sequence, Tuple

from notfallserver.agent.windows.answers import BadAnswer, unpack

ETHERNET, WIRELESS = 6, 71
_NAME, _FIRST_ADDRESS, _DESCRIPTION, _FRIENDLY = 16, 24, 64, 72
_MAC, _KIND, _GATEWAY = 80, 100, 208  # after the kind: status, and the index of IPv6
_UP = 1
"""IfOperStatusUp"""
_IPV4, _IPV6 = 2, 23
_DHCP, _ADVERTISED = 3, 4
_MOST = 4096
"""Of a list's members: a list that runs in a circle ends, too."""


@dataclass(frozen=True)
class Address:
    text: str  # with prefix length
    leased: bool  # the network gave it


@dataclass(frozen=True)
class Adapter:
    guid: str  # {…}, by which the registry names it
    name: str  # "Ethernet 2"
    description: str
    mac: str
    kind: int
    addresses: Tuple[Address, ...]
    gateways: Tuple[str, ...]
    up: bool = True  # it is switched on, and has a link
    index: int = 0  # by which IPv6 names the segment of a link-local address


class _Memory:
    def __init__(self, content: bytes, base: int) -> None:
        self._content, self._base = content, base

    def at(self, pointer: int) -> int:
        place = pointer - self._base
        if not 0 <= place < len(self._content):
            raise BadAnswer("a pointer leads out of the answer")
        return place

    def numbers(self, form: str, at: int) -> Tuple[int, ...]:
        return unpack(form, self._content, at)

    def chain(self, pointer: int) -> Iterator[int]:
        """The places of a list's members; each has the pointer to the next one at 8."""
        for _ in range(_MOST):
            if not pointer:
                return
            place = self.at(pointer)
            yield place
            (pointer,) = self.numbers("Q", place + 8)
        raise BadAnswer("a list has no end")

    def narrow(self, pointer: int) -> str:
        place = self.at(pointer)
        return self._content[place:].split(b"\0", 1)[0].decode("latin-1")

    def wide(self, pointer: int) -> str:
        if not pointer:
            return ""
        place = end = self.at(pointer)
        while end + 2 <= len(self._content) and self._content[end : end + 2] != b"\0\0":
            end += 2
        return self._content[place:end].decode("utf-16-le", "replace")

    def address(self, place: int) -> str:
        """Of a SOCKET_ADDRESS; empty for what is neither IPv4 nor IPv6."""
        pointer, length = self.numbers("Ql", place)
        if not pointer:
            return ""
        at = self.at(pointer)
        (family,) = self.numbers("H", at)
        if family == _IPV4 and length >= 8:
            return str(ipaddress.IPv4Address(self._content[at + 4 : at + 8]))
        if family == _IPV6 and length >= 24:
            return str(ipaddress.IPv6Address(self._content[at + 8 : at + 24]))
        return ""


def read_adapters(content: bytes, base: int) -> List[Adapter]:
    """All adapters; ``base`` is the address that the first byte had."""
    if not content:
        return []
    memory = _Memory(content, base)
    try:
        return [_adapter(memory, place) for place in memory.chain(base)]
    except ValueError as error:
        raise BadAnswer(f"an address is none ({error})") from None


def _adapter(memory: _Memory, place: int) -> Adapter:
    (name,) = memory.numbers("Q", place + _NAME)
    (first,) = memory.numbers("Q", place + _FIRST_ADDRESS)
    description, friendly = memory.numbers("QQ", place + _DESCRIPTION)
    mac = memory.numbers("8B", place + _MAC)
    (length,) = memory.numbers("L", place + _MAC + 8)
    kind, status, index = memory.numbers("3L", place + _KIND)
    (gateway,) = memory.numbers("Q", place + _GATEWAY)
    addresses = []
    for one in memory.chain(first):
        text = memory.address(one + 16)
        (origin,) = memory.numbers("L", one + 32)
        (prefix,) = memory.numbers("B", one + 56)
        if text:
            addresses.append(Address(f"{text}/{prefix}", origin in (_DHCP, _ADVERTISED)))
    gateways = [memory.address(one + 16) for one in memory.chain(gateway)]
    return Adapter(
        memory.narrow(name),
        memory.wide(friendly),
        memory.wide(description),
        ":".join(f"{one:02x}" for one in mac[:6]) if length == 6 else "",
        kind,
        tuple(addresses),
        tuple(one for one in gateways if one),
        status == _UP,
        index,
    )


@dataclass(frozen=True)
class Card:
    """A piece of hardware, and what has its addresses: itself, or a switch or team above it."""

    hardware: Adapter
    works: Adapter


def cards(adapters: Sequence[Adapter], is_hardware: Callable[[Adapter], bool]) -> List[Card]:
    """One for each MAC of a card. A virtual switch and a team have the MAC of a card below them;
    what is not above any card (VPN, networks of virtual machines) is none. If nothing is known to
    be hardware, everything counts."""
    found = [one for one in adapters if one.kind in (ETHERNET, WIRELESS) and one.mac.strip("0:")]
    hardware = [one for one in found if is_hardware(one)] or found
    chosen: Dict[str, Card] = {}
    for one in hardware:
        chosen.setdefault(one.mac, Card(one, one))
    for one in found:
        card = chosen.get(one.mac)
        if card is not None and one.addresses and not card.works.addresses:
            chosen[one.mac] = Card(card.hardware, one)
    return list(chosen.values())
