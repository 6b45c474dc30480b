"""A Windows with network cards that are switched off and on, as its registry says that they are.

What changes it (``netsh``, the registry) can be where the agent is killed; see :class:`Killed`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Dict, List, Optional, Set, Tuple

import notfall_lab.windows.structures as w
from notfall_lab.windows.machine import Machine
from notfallserver.agent.disks.windows import _CARDS
from notfallserver.agent.windows.cards import _CONNECTION
from notfallserver.agent.windows.quiet import TCPIP
from notfallserver.agent.windows.system import NUMBER, TEXT, TEXTS, Refused, Value

FIREWALL = r"SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy"
MANUAL, WELL_KNOWN, DHCP, ADVERTISED = 1, 2, 3, 4
LEASE = "198.51.100.77"
GLOBAL6 = "2001:db8::77"


class Killed(BaseException):
    """The agent's process ended here."""


@dataclass
class Nic:
    guid: str
    name: str
    mac: str
    index: int
    kind: int = 6
    on: bool = True
    plugged: bool = True
    stuck: bool = False  # can't be switched off
    keeps_mac: bool = False  # whatever the registry says
    has_ipv6: bool = True
    fixed6: List[str] = field(default_factory=list)
    mac_now: str = ""
    ipv4: List[Tuple[str, int]] = field(default_factory=list)
    gateways: List[str] = field(default_factory=list)
    age: int = 0  # how often it was looked at since it is on
    silenced: bool = False

    @property
    def key(self) -> str:
        return rf"{_CARDS}\{self.index:04}"

    @property
    def place(self) -> str:
        return TCPIP.format(self.guid)


class NetMachine(Machine):
    """``routers``: there are routers of IPv6, which give addresses. ``counted`` is called before
    and after each change."""

    def __init__(self, *nics: Nic, routers: bool = False) -> None:
        super().__init__()
        self.nics = list(nics)
        self.routers = routers
        self.rules: List[Tuple[str, ...]] = []
        self.counted: Callable[[], None] = lambda: None
        self.refused: Set[str] = set()  # words of commands that Windows refuses
        for one in nics:
            self.registry[one.key, "NetCfgInstanceId"] = one.guid
            self.registry[one.key, "Characteristics"] = 4 if one.kind in (6, 71) else 0
            self.registry[one.key, "DeviceInstanceID"] = rf"PCI\{one.index}"
            self.registry[rf"{_CONNECTION}\{one.guid}\Connection", "Name"] = one.name
        for profile in ("DomainProfile", "StandardProfile", "PublicProfile"):
            self.registry[rf"{FIREWALL}\{profile}", "EnableFirewall"] = 1
        self.registry[r"SYSTEM\CurrentControlSet\Services\MpsSvc", "Start"] = 2

    def fix(self, nic: Nic, address: str, gateway: str = "") -> None:
        """A fixed address of IPv4."""
        for name, value in (
            ("IPAddress", (TEXTS, [address])),
            ("SubnetMask", (TEXTS, ["255.255.255.0"])),
            ("DefaultGateway", (TEXTS, [gateway] if gateway else [])),
            ("DefaultGatewayMetric", (TEXTS, ["7"])),
            ("NameServer", (TEXT, "198.51.100.2")),
            ("EnableDHCP", (NUMBER, 0)),
        ):
            self.values[nic.place, name] = value

    def lease(self, nic: Nic) -> None:
        self.values[nic.place, "EnableDHCP"] = (NUMBER, 1)

    def start(self) -> None:
        """Windows starts (anew)."""
        for one in self.nics:
            self.plug(one)

    # -- the cards ---------------------------------------------------------------------------------

    def plug(self, nic: Nic) -> None:
        nic.ipv4, nic.gateways, nic.age, nic.silenced = [], [], 0, False
        told = self.values.get((nic.key, "NetworkAddress"))
        own = told is None or nic.keeps_mac
        nic.mac_now = nic.mac if own or told is None else bytes.fromhex(str(told[1])).hex(":")
        if self._texts(nic, "EnableDHCP") == 1:
            nic.ipv4, nic.gateways = [(LEASE, DHCP)], ["198.51.100.1"]
            return
        nic.ipv4 = [(one, MANUAL) for one in self._list(nic, "IPAddress")]
        nic.gateways = self._list(nic, "DefaultGateway")

    def _texts(self, nic: Nic, name: str) -> object:
        value = self.values.get((nic.place, name))
        return value[1] if value else None

    def _list(self, nic: Nic, name: str) -> List[str]:
        found = self._texts(nic, name)
        return list(found) if isinstance(found, list) else []

    def addresses(self, nic: Nic) -> List[Tuple[str, int, int]]:
        if not (nic.on and nic.plugged):
            return []
        found = [(one, 24, origin) for one, origin in nic.ipv4]
        if nic.has_ipv6:
            found.append((f"fe80::{nic.index}", 64, WELL_KNOWN))
            found += [(one, 64, MANUAL) for one in nic.fixed6]
            if self.routers and not nic.silenced and nic.age > 3:
                found.append((GLOBAL6, 64, ADVERTISED))
        return found

    def exposed(self) -> List[str]:
        """What of this machine would be in its stand-in's way."""
        found = []
        for one in self.nics:
            if not (one.on and one.plugged):
                continue
            if one.mac_now == one.mac:
                found.append(one.mac)
            found += [text for text, _ in one.ipv4 if not text.startswith("169.254.")]
            open_ = not self.rules
            found += [text for text, _, _ in self.addresses(one) if open_ and ":" in text]
        return found

    # -- what Windows is asked --------------------------------------------------------------------

    def adapters(self) -> Tuple[bytes, int]:
        listed = [one for one in self.nics if one.on]
        for one in listed:
            one.age += 1
        described = [
            {
                "guid": one.guid,
                "name": one.name,
                "description": "",
                "mac": one.mac_now,
                "kind": one.kind,
                "addresses": self.addresses(one),
                "gateways": one.gateways if one.plugged else [],
                "status": 1 if one.plugged else 2,
                "index": one.index if one.has_ipv6 else 0,
            }
            for one in listed
        ]
        return (w.adapters(1 << 32, described), 1 << 32) if described else (b"", 0)

    def set_value(self, key: str, name: str, value: Optional[Value]) -> None:
        self.counted()
        if name in self.refused:
            raise Refused(5, name)
        super().set_value(key, name, value)
        self.counted()

    def netsh(self, *arguments: str) -> None:
        self.counted()
        if self.refused & set(arguments):
            raise Refused(1, " ".join(arguments))
        self.commands.append(arguments)
        named = dict(one.split("=", 1) for one in arguments if "=" in one)
        if arguments[:3] == ("interface", "set", "interface"):
            self._switch(named["name"], named["admin"] == "enabled")
        elif arguments[:4] == ("interface", "ipv6", "set", "interface"):
            for one in self.nics:
                one.silenced |= one.on and str(one.index) == named["interface"]
        elif arguments[:3] == ("advfirewall", "firewall", "add"):
            self.rules.append(arguments)
        else:
            if not self.rules:
                raise Refused(1, "no rules match")
            if arguments[2] == "delete":
                self.rules.clear()
        self.counted()

    def _switch(self, name: str, on: bool) -> None:
        nic = next((one for one in self.nics if one.name == name), None)
        if nic is None or (nic.stuck and not on):
            raise Refused(1, f"no interface {name}, or it stays")
        if on and not nic.on:
            self.plug(nic)
        nic.on = on

    def saved(self) -> Dict[str, object]:
        """All that must be the same again."""
        cards = {one.name: (one.on, one.mac_now, tuple(one.ipv4)) for one in self.nics}
        return {"values": dict(self.values), "rules": list(self.rules), "cards": cards}
