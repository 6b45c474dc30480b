"""Before the network comes up: is this machine's place taken? At most about 13 s, mostly 2 s.

Whatever goes wrong here is logged, and the machine starts as always: a guard that keeps a healthy
server off the network would be an outage of its own. The second line is the emergency server, which
orders an original off that calls while its stand-in works.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Dict, List, Set

from notfallserver.agent import commands
from notfallserver.agent.fence import signs
from notfallserver.agent.fence.apart import STAND_IN, TAKEN, Apart, put_apart
from notfallserver.agent.fence.ask import all_cards, ask_own, is_settled, named_now, raised
from notfallserver.agent.fence.judge import Finding, judge
from notfallserver.agent.fence.own import Address, Network, recall
from notfallserver.agent.fence.units import start_watch
from notfallserver.agent.role import role

log = logging.getLogger("notfall-agent")

CARDS_S = 5.0
"""So long for cards whose driver is slow."""
CARRIER_S = 6.0
"""So long for a link to be negotiated."""


def guard_boot(directory: Path) -> bool:
    """Whether the machine was kept off the network."""
    if role(directory) != "primary":
        return False  # a stand-in would find itself
    network = recall(directory)
    if not network.addresses:
        log.info("no addresses are known of this machine yet")
        return False
    log.info("looks for cards of %d addresses", len(network.addresses))
    names = _await_cards(network)
    busy = configured()
    free = [one for one in all_cards() if one not in busy]
    addresses = placed(network, names, free)
    wanted = sorted({card for one in addresses for card in one.cards})
    log.info("brings up %s", ", ".join(wanted) or "no card")
    with raised(wanted, CARRIER_S) as up:
        log.info("asks on %s", ", ".join(up) or "no card")
        found = ask_own(addresses, up, network.macs)
    finding = judge([one for one in addresses if set(one.cards) & set(up)], network.macs, found)
    _tell(finding, up)
    if not finding.taken:
        return False
    apart = Apart(STAND_IN if finding.stand_in else TAKEN, finding.answers)
    apart = put_apart(apart, free)
    signs.show(apart)
    start_watch()
    return True


def _tell(finding: Finding, up: List[str]) -> None:
    for address, mac in finding.answers:
        log.warning("%s is used by %s", address, mac)
    if not finding.answers:
        log.info("nobody answers for this machine on %s", ", ".join(up) or "any card")
    elif not finding.taken:
        log.warning("that is no stand-in: the network comes up")


def _await_cards(network: Network) -> Dict[str, str]:
    """What the cards are called now, as soon as udev has named those that are known."""
    until = time.monotonic() + CARDS_S
    while True:
        names = named_now(network.cards)
        ready = all(is_settled(one) for one in names.values())
        if (ready and len(names) == len(network.cards)) or time.monotonic() > until:
            return {old: new for old, new in names.items() if is_settled(new)}
        time.sleep(0.1)


def configured() -> Set[str]:
    """Cards that have addresses already, from the initramfs: the system may live on them, and
    what answers for them may be this machine itself."""
    told = commands.read_json(["ip", "-j", "address", "show"])
    return {
        str(one.get("ifname"))
        for one in (told if isinstance(told, list) else [])
        if any(item.get("scope") == "global" for item in one.get("addr_info", []))
    }


def placed(network: Network, names: Dict[str, str], free: List[str]) -> List[Address]:
    """The addresses with the cards as they are called now, and only those that may be asked on.

    Where none of its cards is there any more (others were built in), an address may be anywhere.
    """
    found = []
    for one in network.addresses:
        now = tuple(names[card] for card in one.cards if card in names) or tuple(free)
        cards = tuple(card for card in now if card in free)
        if cards:
            found.append(replace(one, cards=cards))
    return found
