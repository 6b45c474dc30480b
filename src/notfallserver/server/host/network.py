"""The network interfaces of this host, as ``ip`` and sysfs tell them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from notfallserver.server.host.run import run

_NET = Path("/sys/class/net")


class Manager(StrEnum):
    """What sets the network up when the host starts."""

    IFUPDOWN = "ifupdown"
    NETPLAN = "netplan"
    NETWORKD = "networkd"


@dataclass(frozen=True)
class Link:
    """One interface; addresses with prefix length, link-local ones left out.

    ``kind`` is bridge, vlan, tun, ... and empty for a card; ``bridge`` is the one it belongs to;
    ``leased`` says that its IPv4 address came by DHCP; ``carrier`` that a cable is plugged in.
    """

    name: str
    mac: str = ""
    kind: str = ""
    bridge: str = ""
    card: bool = False
    wireless: bool = False
    carrier: bool = False
    addresses: tuple[str, ...] = ()
    leased: bool = False


def read_links(net: Path = _NET) -> tuple[Link, ...]:
    """All interfaces of this host but the loopback."""
    told = json.loads(run(["ip", "-d", "-j", "address", "show"], timeout=5).out)
    return tuple(_link(one, net) for one in told if "LOOPBACK" not in one.get("flags", ()))


def _link(one: Mapping[str, Any], net: Path) -> Link:
    name = str(one["ifname"])
    known = [
        item
        for item in one.get("addr_info", ())
        if item.get("scope") == "global" and "local" in item
    ]
    return Link(
        name=name,
        mac=str(one.get("address", "")),
        kind=str(one.get("linkinfo", {}).get("info_kind", "")),
        bridge=str(one.get("master", "")),
        card=(net / name / "device").exists(),
        wireless=(net / name / "wireless").exists(),
        carrier="LOWER_UP" in one.get("flags", ()),
        addresses=tuple(f"{item['local']}/{item['prefixlen']}" for item in known),
        leased=any(item.get("dynamic") for item in known if item.get("family") == "inet"),
    )


def find_manager(root: Path = Path("/")) -> Manager:
    """Debian's own way where nothing else is set up."""
    if any((root / "etc/netplan").glob("*.yaml")):
        return Manager.NETPLAN
    if any((root / "etc/systemd/network").glob("*.network")):
        return Manager.NETWORKD
    return Manager.IFUPDOWN
