"""Addresses follow the network cards. Pure.

Windows keeps addresses by interface, and a new card is a new interface, without any. What the old
one had is written into a file by the card's MAC; the agent in the image sets it at the first start.
The old interface gives its addresses up: Windows refuses an address that another one holds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from notfallserver.guest.facts import Hardware, HardwareNic
from notfallserver.guest.network import moved_addresses
from notfallserver.guest.windows.facts import Interface, WindowsSystem
from notfallserver.guest.windows.registry import (
    SYSTEM,
    DeleteValue,
    RegistryStep,
    SetValue,
    number,
)
from notfallserver.wire.facts import Machine, Nic

_INTERFACES = "Services\\Tcpip\\Parameters\\Interfaces"


@dataclass(frozen=True)
class Network:
    """``text``: what the agent shall set, as JSON; ``unclear``: addresses of no known card."""

    steps: Tuple[RegistryStep, ...] = ()
    text: str = ""
    unclear: Tuple[str, ...] = ()


def plan_network(
    system: WindowsSystem, hardware: Hardware, original: Machine, told: str, was: str
) -> Network:
    """``told``: the agent's file as it is in the image, ``was``: the role that the image had."""
    cards = _remembered(told)
    moved = moved_addresses(hardware)
    cards = {moved.get(mac, mac): card for mac, card in cards.items()}
    steps: List[RegistryStep] = []
    unclear: List[str] = []
    # a card that is long gone may have held the same address: the gateway tells the present one
    for interface in sorted(system.interfaces, key=lambda one: original.gateway in one.gateways):
        nic = _card_of(interface, original, hardware.nics)
        if nic is None:
            unclear += interface.addresses
            continue
        if _keeps_its_own(hardware, nic, was):
            continue
        cards[nic.mac] = {
            "addresses": list(interface.addresses),
            "gateways": list(interface.gateways),
            "name_servers": list(interface.name_servers),
        }
        if interface.addresses:
            steps += _given_up(system, interface)
    for old in original.nics:
        fixed = _fixed_6(old)
        nic = _at(old, hardware.nics) if fixed else None
        if nic is None or _keeps_its_own(hardware, nic, was):
            continue
        card = cards.setdefault(nic.mac, {"addresses": [], "gateways": [], "name_servers": []})
        card["addresses"] += [one for one in fixed if one not in card["addresses"]]
    return Network(tuple(steps), _written(cards) if cards else "", tuple(unclear))


def _card_of(
    interface: Interface, original: Machine, nics: Sequence[HardwareNic]
) -> Optional[HardwareNic]:
    """The new card for the one that had the interface's addresses on the original."""
    addresses = {one.split("/")[0] for one in (*interface.addresses, interface.leased) if one}
    for old in original.nics:
        if addresses & {one.split("/")[0] for one in old.addresses}:
            return _at(old, nics)
    return None


def _at(old: Nic, nics: Sequence[HardwareNic]) -> Optional[HardwareNic]:
    """The card in its place."""
    mac = old.mac.lower()
    return next((one for one in nics if one.mac and mac in (one.old_mac, one.mac)), None)


def _keeps_its_own(hardware: Hardware, nic: HardwareNic, was: str) -> bool:
    """On its own card, which has its addresses still."""
    return hardware.role == "primary" and was != "stand-in" and nic.mac == nic.old_mac


def _fixed_6(old: Nic) -> List[str]:
    """Addresses of IPv6 that were set by hand; Windows keeps them where only it can read them, so
    they are what its agent told."""
    mine = [one for one in old.addresses if ":" in one and one not in old.leased]
    return [one for one in mine if not one.lower().startswith("fe80:")]


def _given_up(system: WindowsSystem, interface: Interface) -> List[RegistryStep]:
    key = f"{system.control_set}\\{_INTERFACES}\\{interface.name}"
    told = f"{', '.join(interface.addresses)} goes from the old network card to the new one"
    steps: List[RegistryStep] = [
        DeleteValue(SYSTEM, key, name, told)
        for name in ("IPAddress", "SubnetMask", "DefaultGateway")
    ]
    return [*steps, SetValue(SYSTEM, key, "EnableDHCP", number(1), told)]


def _remembered(told: str) -> Dict[str, Dict[str, Any]]:
    """What an earlier adaptation wrote, by MAC; nothing of what somebody else broke."""
    try:
        cards = json.loads(told)["cards"] if told else []
        return {
            str(one["mac"]).lower(): {
                name: [str(each) for each in one.get(name, [])]
                for name in ("addresses", "gateways", "name_servers")
            }
            for one in cards
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _written(cards: Dict[str, Dict[str, Any]]) -> str:
    listed = [{"mac": mac, **card} for mac, card in sorted(cards.items())]
    return json.dumps({"cards": listed}, indent=1) + "\n"
