"""Which network interfaces of a machine are cards; used wherever cards are compared or made."""

from __future__ import annotations

import re
from typing import Dict, List

from notfallserver.wire.facts import Machine, Nic

_MADE_OF_OTHERS = frozenset(
    ["8021q", "bonding", "bridge", "dummy", "macvlan", "team", "tun", "veth", "vlan", "wireguard"]
)


def real_cards(machine: Machine) -> List[Nic]:
    """One entry per card; bridges and bonds show the address of the card below them."""
    cards: Dict[str, Nic] = {}
    for nic in machine.nics:
        mac = nic.mac.lower()
        if nic.driver in _MADE_OF_OTHERS or not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac):
            continue
        if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
            continue
        cards.setdefault(mac, nic)
    return list(cards.values())
