"""Which addresses this machine has, and on which cards: kept for the next start.

At that time nothing is configured yet, and what will be is known to a dozen programs in as many
languages. So what is remembered is what the kernel had when the agent last looked. The file
(:attr:`Place.network`) is replaced as a whole; without it nothing is asked.
"""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, FrozenSet, List, Mapping, Sequence, Set, Tuple

from notfallserver.agent import commands
from notfallserver.agent.place import Place

log = logging.getLogger("notfall-agent")

_NET = Path("/sys/class/net")
_MOST = 256
"""Addresses and cards that are remembered."""
_SHARED = re.compile("00:00:5e:00:0[12]:")
"""MACs of virtual routers (VRRP): several machines have them in turn."""


@dataclass(frozen=True)
class Card:
    """A real card; ``mac`` is its own, whatever it was told to use."""

    name: str
    mac: str


@dataclass(frozen=True)
class Address:
    """``leased``: the network gave it. ``vlan`` 0: none. It is reached by any of ``cards``."""

    address: str
    leased: bool = False
    vlan: int = 0
    cards: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Network:
    """``macs`` are all that this machine was heard with; ``servers`` the link-local addresses of
    its emergency servers, by URL."""

    cards: Tuple[Card, ...] = ()
    addresses: Tuple[Address, ...] = ()
    macs: FrozenSet[str] = frozenset()
    servers: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)


def file_of(directory: Path) -> Path:
    return Place(directory).network


def remember(directory: Path, url: str = "", near: Sequence[str] = ()) -> None:
    """Keep what is there now; ``near`` are link-local addresses of the server at ``url``.

    Nothing is forgotten because the network is not up (yet).
    """
    before = recall(directory)
    now = network_of(commands.read_json(["ip", "-d", "-j", "address", "show"]), _cards())
    if not now.addresses:
        now = before
    servers = {**before.servers, **({url: tuple(near)} if url and near else {})}
    text = text_of(Network(now.cards, now.addresses, now.macs, servers))
    path = file_of(directory)
    try:
        if path.exists() and path.read_text() == text:
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_name(path.name + ".new")
        with new.open("w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(path)
    except OSError as error:
        log.warning("%s cannot be written (%s)", path, error)


def recall(directory: Path) -> Network:
    """What was kept; empty where nothing was, or it is damaged."""
    try:
        told = json.loads(file_of(directory).read_text())
        return Network(
            tuple(Card(str(one["name"]), str(one["mac"])) for one in told["cards"]),
            tuple(
                Address(
                    str(one["address"]),
                    one["leased"] is True,
                    int(one["vlan"]),
                    tuple(str(card) for card in one["cards"]),
                )
                for one in told["addresses"]
            ),
            frozenset(str(one) for one in told["macs"]),
            {str(url): tuple(str(one) for one in near) for url, near in told["servers"].items()},
        )
    except FileNotFoundError:
        return Network()
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        log.warning("%s cannot be used (%s)", file_of(directory), error)
        return Network()


def text_of(network: Network) -> str:
    """As it is kept."""
    told: Dict[str, Any] = asdict(network)
    told["macs"] = sorted(network.macs)
    return json.dumps(told, indent=2, sort_keys=True) + "\n"


def _cards() -> FrozenSet[str]:
    """Interfaces with hardware behind them."""
    return frozenset(one.name for one in _NET.iterdir() if (one / "device").exists())


def network_of(told: Any, cards: FrozenSet[str]) -> Network:
    """From ``ip -d -j address``; pure. Where there is no card at all (a container), whatever has
    addresses counts as one."""
    links = {
        str(one["ifname"]): one
        for one in (told if isinstance(told, list) else [])
        if one.get("link_type") == "ether" and one.get("ifname")
    }
    real = {name for name in links if name in cards}
    if not real:
        real = {name for name, one in links.items() if _addresses(one)}
    addresses: List[Address] = []
    macs: Set[str] = set()
    for name, one in links.items():
        below, vlan = _below(name, links, real)
        if not below:
            continue
        macs.add(str(one.get("address", "")).lower())
        addresses += [
            Address(address, leased, vlan, tuple(sorted(below)))
            for address, leased in _addresses(one)
        ]
    kept = [Card(name, _own_mac(links[name])) for name in sorted(real)]
    macs |= {card.mac for card in kept}
    return Network(
        tuple(kept[:_MOST]),
        tuple(addresses[:_MOST]),
        frozenset(one for one in macs if one and not _SHARED.match(one)),
    )


def _own_mac(link: Mapping[str, Any]) -> str:
    return str(link.get("permaddr") or link.get("address", "")).lower()


def _addresses(link: Mapping[str, Any]) -> List[Tuple[str, bool]]:
    """Without temporary ones, which nobody looks for, and those that turned out to be taken."""
    return [
        (str(one["local"]), one.get("dynamic") is True)
        for one in link.get("addr_info", [])
        if one.get("scope") == "global"
        and "local" in one
        and not one.get("temporary")
        and not one.get("dadfailed")
    ]


def _below(
    name: str, links: Mapping[str, Mapping[str, Any]], real: Set[str], depth: int = 0
) -> Tuple[Set[str], int]:
    """The cards below an interface, and the VLAN in which it uses them; none where that is not
    understood (a VLAN in a VLAN)."""
    if name in real:
        return {name}, 0
    link = links.get(name)
    if link is None or depth > 4:
        return set(), 0
    about = link.get("linkinfo", {})
    if about.get("info_kind") == "vlan":
        cards, inner = _below(str(link.get("link", "")), links, real, depth + 1)
        number = about.get("info_data", {}).get("id")
        if inner or not isinstance(number, int):
            return set(), 0
        return cards, number
    if about.get("info_kind") in ("macvlan", "ipvlan"):
        return _below(str(link.get("link", "")), links, real, depth + 1)
    found: Set[str] = set()
    vlans: Set[int] = set()
    for port, one in links.items():
        if one.get("master") == name:
            cards, vlan = _below(port, links, real, depth + 1)
            found |= cards
            vlans |= {vlan} if cards else set()
    return (found, vlans.pop()) if len(vlans) == 1 else (set(), 0)
