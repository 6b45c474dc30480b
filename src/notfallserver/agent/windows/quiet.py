"""How a machine that keeps off the network asks its server all the same. Pure.

All cards are switched off. One may come back *quiet*: it has another MAC, an address that leads
nowhere, the link-local one of IPv6, and a firewall that lets nothing through but calls to the
server. With its own MAC it would draw to itself what is meant for the stand-in; without the
firewall programs would find it by its name, because Windows answers for that on link-local
addresses as well.

Nobody here could try it on a real Windows. So what Windows itself tells of the card is looked at
again and again, and one that has anything else is switched off for good: no quiet card is better
than one that is not.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Callable, List, Optional, Sequence, Tuple

from notfallserver.agent.windows.adapters import ETHERNET, Adapter
from notfallserver.agent.windows.apart import Quiet, Saved
from notfallserver.agent.windows.system import NUMBER, TEXT, TEXTS, Value

Command = Tuple[str, ...]

RULE = "Notfallserver: this machine keeps off the network"
TCPIP = r"SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces\{}"
MAC_VALUE = "NetworkAddress"
ADDRESS_VALUE = "IPAddress"
_FIREWALL = r"SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy\{}"
_POLICY = r"SOFTWARE\Policies\Microsoft\WindowsFirewall\{}"
_PROFILES = (
    ("DomainProfile", "DomainProfile"),
    ("StandardProfile", "PrivateProfile"),
    ("PublicProfile", "PublicProfile"),
)
_FIREWALL_SERVICE = r"SYSTEM\CurrentControlSet\Services\MpsSvc"
_AUTOMATIC = 2
_LAST6 = (1 << 128) - 1


@dataclass(frozen=True)
class Disguise:
    mac: str
    parked: str


def disguise_of(random: bytes) -> Disguise:
    """Made of seven random bytes: a MAC that no maker gives, and an address that no router
    passes on."""
    mac = bytes([0x02]) + random[:5]
    return Disguise(mac.hex(":"), f"169.254.{1 + random[5] % 254}.{1 + random[6] % 254}")


def choose(
    hardware: Sequence[Adapter], adapters: Sequence[Adapter], keys: Callable[[Adapter], str]
) -> Optional[Adapter]:
    """The card to ask by, while all are on; ``keys`` are those of their drivers.

    Not one below a team or a virtual switch, whose address is not the card's; nor one that has a
    fixed address of IPv6, which would come back with it.
    """
    macs = [one.mac for one in adapters if one.mac]
    fit = [
        one
        for one in hardware
        if one.kind == ETHERNET
        and one.up
        and one.mac
        and macs.count(one.mac) == 1
        # A team has the MAC of one of its cards, and the others' have none of their own.
        and any(_is_global(each.text) for each in one.addresses)
        and not any(_is_fixed6(each.text, each.leased) for each in one.addresses)
        and keys(one)
    ]
    return next((one for one in fit if one.gateways), fit[0] if fit else None)


def _is_global(text: str) -> bool:
    address = ipaddress.ip_interface(text)
    return not address.is_link_local and not address.is_loopback


def _is_fixed6(text: str, leased: bool) -> bool:
    return ":" in text and not leased and _is_global(text)


def firewall_acts(number: Callable[[str, str], object]) -> bool:
    """Whether rules made here hold, in whatever kind of network Windows believes to be; ``number``
    gives values of the registry."""
    if number(_FIREWALL_SERVICE, "Start") != _AUTOMATIC:
        return False
    for local, policy in _PROFILES:
        forced = number(_POLICY.format(policy), "EnableFirewall")
        if (number(_FIREWALL.format(local), "EnableFirewall") if forced is None else forced) != 1:
            return False
        if number(_POLICY.format(policy), "AllowLocalPolicyMerge") == 0:
            return False
    return True


# -- what is written -------------------------------------------------------------------------------


def parked_values(parked: str) -> List[Tuple[str, Optional[Value]]]:
    """In this order: the address first, by which it is known later that these are ours."""
    return [
        (ADDRESS_VALUE, (TEXTS, [parked])),
        ("SubnetMask", (TEXTS, ["255.255.0.0"])),
        ("DefaultGateway", (TEXTS, [])),
        ("EnableDHCP", (NUMBER, 0)),
    ]


def mac_value(mac: str) -> Value:
    return TEXT, mac.replace(":", "").upper()


def is_ours(quiet: Quiet, now: Optional[Value]) -> bool:
    """Whether the addresses in the registry are those that were written here; ``now`` is that of
    the name :data:`ADDRESS_VALUE`. Else a person has set others meanwhile, which stay."""
    return now is not None and list(_texts(now)) == [quiet.parked]


def is_our_mac(quiet: Quiet, now: Optional[Value]) -> bool:
    return now == mac_value(quiet.mac)


def _texts(value: Value) -> Sequence[str]:
    content = value[1]
    return content if isinstance(content, list) else ()


def back_again(saved: Saved) -> List[Tuple[str, Optional[Value]]]:
    """The address last, so that it tells until then that not all is back."""
    return sorted(saved, key=lambda one: one[0] == ADDRESS_VALUE)


# -- netsh -----------------------------------------------------------------------------------------


def switch(name: str, on: bool) -> Command:
    state = "enabled" if on else "disabled"
    return ("interface", "set", "interface", f"name={name}", f"admin={state}")


def no_routers(index: int) -> Command:
    """Routers give it no address of IPv6; forgotten when the card is switched off."""
    off = ("routerdiscovery=disabled", "managedaddress=disabled", "otherstateful=disabled")
    return ("interface", "ipv6", "set", "interface", f"interface={index}", *off, "store=active")


def rules(near: Sequence[str]) -> List[Command]:
    """Nothing comes in, and nothing goes out but to ``near``. ICMP stays: by it neighbours are
    found, and no program serves anybody by it."""
    head = ("advfirewall", "firewall", "add", "rule", f"name={RULE}", "action=block", "profile=any")
    others = f"remoteip={','.join([*others4(), *others6(near)])}"
    found: List[Command] = []
    for protocol in ("tcp", "udp"):
        found.append((*head, "dir=in", f"protocol={protocol}"))
        found.append((*head, "dir=out", f"protocol={protocol}", others))
    return found


DROP_RULES: Command = ("advfirewall", "firewall", "delete", "rule", f"name={RULE}")
SHOW_RULES: Command = ("advfirewall", "firewall", "show", "rule", f"name={RULE}")
"""Refused where there is none."""


def others4() -> List[str]:
    """All addresses of IPv4 but the machine's own."""
    return ["0.0.0.0-126.255.255.255", "128.0.0.0-255.255.255.255"]


def others6(near: Sequence[str]) -> List[str]:
    """All addresses of IPv6 but the machine's own and ``near``, as ranges."""
    spared = sorted({1, *(int(ipaddress.IPv6Address(one)) for one in near)})
    found, start = [], 0
    for one in [*spared, _LAST6 + 1]:
        if start < one:
            first, last = ipaddress.IPv6Address(start), ipaddress.IPv6Address(one - 1)
            found.append(f"{first}-{last}" if first != last else str(first))
        start = one + 1
    return found


# -- what Windows shows of it ----------------------------------------------------------------------


def fault(quiet: Quiet, seen: Adapter) -> str:
    """Why the card must not stay on; empty where it is as quiet as it should be."""
    if seen.mac.lower() != quiet.mac:
        return f"its driver keeps the MAC {seen.mac}"
    for one in seen.addresses:
        address = ipaddress.ip_interface(one.text).ip
        if not address.is_link_local:
            return f"it has the address {address}"
    return ""


def has_link_local(seen: Adapter) -> bool:
    return any(one.text.lower().startswith("fe80") for one in seen.addresses)
