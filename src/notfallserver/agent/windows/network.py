"""Addresses follow to other network cards, at the first start on other hardware.

Windows keeps addresses by the card's interface, and a new card is a new interface without any. The
adaptation of the image has noted by MAC what each card shall have (``guest/windows/network.py``
writes the file); here it is set, once: what a person changes later stays. Planning is pure, and all
commands are ``netsh``'s, which every Windows has. A card that is not there yet is waited for.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Mapping, Sequence, Tuple

from notfallserver.agent.windows.adapters import Adapter, read_adapters
from notfallserver.agent.windows.answers import BadAnswer
from notfallserver.agent.windows.system import Refused, System

log = logging.getLogger("notfall-agent")

WANTED = "network.json"
DONE = "network.done"
"""Beside it: of which content everything has been set."""

Command = Tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """What one card shall have; addresses with prefix length, none where the network gives them."""

    mac: str
    addresses: Tuple[str, ...]
    gateways: Tuple[str, ...]
    name_servers: Tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """``missing``: MACs of cards that are not there."""

    commands: Tuple[Command, ...]
    missing: Tuple[str, ...]


def read_wanted(text: str) -> List[Wanted]:
    """:class:`ValueError` for what the adaptation did not write."""
    told = json.loads(text)
    try:
        return [_wanted(one) for one in told["cards"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it has no cards as expected ({error})") from None


def _wanted(told: Mapping[str, Any]) -> Wanted:
    addresses = [str(ipaddress.ip_interface(one)) for one in told.get("addresses", [])]
    gateways = [str(ipaddress.ip_address(one)) for one in told.get("gateways", [])]
    servers = [str(ipaddress.ip_address(one)) for one in told.get("name_servers", [])]
    return Wanted(str(told["mac"]).lower(), tuple(addresses), tuple(gateways), tuple(servers))


def plan_network(wanted: Sequence[Wanted], adapters: Sequence[Adapter]) -> Plan:
    """What is to be set of what is not so yet."""
    there = {one.mac.lower(): one for one in reversed(adapters) if one.mac}
    commands: List[Command] = []
    missing: List[str] = []
    for one in wanted:
        adapter = there.get(one.mac)
        if adapter is None:
            missing.append(one.mac)
            continue
        commands += _commands(one, adapter)
    return Plan(tuple(commands), tuple(missing))


def _commands(wanted: Wanted, adapter: Adapter) -> List[Command]:
    own = {one.text for one in adapter.addresses if not one.leased}
    interfaces = [ipaddress.ip_interface(one) for one in wanted.addresses]
    lacking = [one for one in interfaces if str(one) not in own]
    found: List[Command] = []
    if any(one.version == 4 for one in lacking):
        mine = [one for one in interfaces if one.version == 4]
        found += _addresses_4(adapter.name, mine, _of(wanted.gateways, 4))
    new = [one for one in lacking if one.version == 6]
    if new:
        found += _addresses_6(adapter.name, new, _of(wanted.gateways, 6))
    for family, version in (("ipv4", 4), ("ipv6", 6)):
        found += _name_servers(family, adapter.name, _of(wanted.name_servers, version))
    return found


def _of(addresses: Sequence[str], version: int) -> List[str]:
    return [one for one in addresses if ipaddress.ip_address(one).version == version]


def _addresses_4(name: str, mine: Sequence[Any], gateways: Sequence[str]) -> List[Command]:
    """``set`` takes away what a lease gave."""
    head, card = ("interface", "ipv4"), f"name={name}"
    first, *others = mine
    gate = (f"gateway={gateways[0]}", "gwmetric=1") if gateways else ("gateway=none",)
    own = (f"address={first.ip}", f"mask={first.netmask}")
    found: List[Command] = [(*head, "set", "address", card, "source=static", *own, *gate)]
    for one in others:
        found.append((*head, "add", "address", card, f"address={one.ip}", f"mask={one.netmask}"))
    for other in gateways[1:]:
        found.append((*head, "add", "address", card, f"gateway={other}", "gwmetric=2"))
    return found


def _addresses_6(name: str, new: Sequence[Any], gateways: Sequence[str]) -> List[Command]:
    head, card = ("interface", "ipv6"), f"interface={name}"
    found: List[Command] = [(*head, "add", "address", card, f"address={one}") for one in new]
    for gate in gateways:
        found.append((*head, "add", "route", "prefix=::/0", card, f"nexthop={gate}"))
    return found


def _name_servers(family: str, name: str, servers: Sequence[str]) -> List[Command]:
    """Without Windows asking each whether it answers: none does while the network comes up."""
    head, card = ("interface", family), f"name={name}"
    found: List[Command] = []
    for number, one in enumerate(servers):
        if number == 0:
            told = ("set", "dnsservers", card, "source=static", f"address={one}")
            found.append((*head, *told, "register=primary", "validate=no"))
        else:
            told = ("add", "dnsservers", card, f"address={one}", f"index={number + 1}")
            found.append((*head, *told, "validate=no"))
    return found


class NetworkKeeper:
    """Of one agent; ``directory`` has its configuration, and what the adaptation wrote there."""

    def __init__(self, directory: Path, system: System) -> None:
        self._wanted = directory / WANTED
        self._done = directory / DONE
        self._system = system
        self._told = ""  # the last trouble, so that it is told once

    def settle(self) -> bool:
        """Set what is not set yet; True when nothing is left to do. Called again and again."""
        try:
            text = self._wanted.read_text()
        except OSError:
            return True
        mark = hashlib.sha256(text.encode()).hexdigest()
        if self._done.exists() and self._done.read_text().strip() == mark:
            return True
        try:
            adapters = read_adapters(*self._system.adapters())
            plan = plan_network(read_wanted(text), adapters)
            for command in plan.commands:
                log.info("netsh %s", " ".join(command))
                self._system.netsh(*command)
        except (Refused, BadAnswer, ValueError) as error:
            return self._trouble(f"the network's addresses could not be set: {error}")
        if plan.missing:
            return self._trouble(f"no network card {', '.join(plan.missing)} is there yet")
        self._done.write_text(mark + "\n")
        return True

    def _trouble(self, text: str) -> bool:
        if text != self._told:
            log.warning("%s", text)
        self._told = text
        return False
