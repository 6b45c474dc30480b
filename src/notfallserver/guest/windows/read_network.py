"""What the registry says of network cards and their addresses."""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Interface, NetmaskValueError
from typing import List, Tuple

from notfallserver.guest.windows.facts import Card, Interface
from notfallserver.guest.windows.hive import Hive

NET_CLASS = "{4D36E972-E325-11CE-BFC1-08002BE10318}"
INTERFACES = "Services\\Tcpip\\Parameters\\Interfaces"
_PHYSICAL = 4
"""Of a card's characteristics: it is no tunnel, and no other thing of software."""


def read_interfaces(system: Hive, current: str) -> Tuple[Interface, ...]:
    """Those of which something was set by hand: addresses, or only the name servers."""
    found: List[Interface] = []
    for key in system.below(f"{current}\\{INTERFACES}"):
        lists = {
            one: key.values[one].texts() if one in key.values else ()
            for one in ("ipaddress", "subnetmask", "defaultgateway", "nameserver")
        }
        servers = tuple(" ".join(lists["nameserver"]).replace(",", " ").split())
        addresses = tuple(_addresses(lists["ipaddress"], lists["subnetmask"]))
        if key.number("enabledhcp") == 0 and addresses:
            gateways = tuple(one for one in lists["defaultgateway"] if one.strip("0."))
            found.append(Interface(key.name, addresses, gateways, servers))
        elif servers and key.text("dhcpipaddress").strip("0."):
            found.append(Interface(key.name, (), (), servers, key.text("dhcpipaddress")))
    return tuple(found)


def _addresses(addresses: Tuple[str, ...], masks: Tuple[str, ...]) -> List[str]:
    found = []
    for address, mask in zip(addresses, masks):
        try:
            told = IPv4Interface(f"{address}/{mask}")
        except (AddressValueError, NetmaskValueError, ValueError):
            continue
        if not told.ip.is_unspecified:
            found.append(told.with_prefixlen)
    return found


def read_cards(system: Hive, current: str) -> Tuple[Card, ...]:
    """Real cards only."""
    found: List[Card] = []
    for key in system.below(f"{current}\\Control\\Class\\{NET_CLASS}"):
        told, interface = key.number("characteristics"), key.text("netcfginstanceid")
        if told >= 0 and told & _PHYSICAL and interface:
            device = key.text("matchingdeviceid").lower()
            found.append(Card(key.text("driverdesc"), device, interface))
    return tuple(found)
