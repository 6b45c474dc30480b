"""Asking for this machine's own addresses on cards that have none yet.

The cards are brought up for it without IPv6, so that the kernel gives them no address, and are
afterwards as they were: what sets the network up finds what it expects.

A stand-in has this machine's MAC, and a switch does not send what comes from a MAC back to the same
MAC: an answer to a usual probe would be lost. So probes ask to be answered to everybody; the usual
form is sent as well, for systems that don't do that.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Callable, Dict, FrozenSet, Iterator, List, Optional, Sequence, Tuple

from notfallserver.agent import commands
from notfallserver.agent.fence.own import Address, Card
from notfallserver.wire import packets
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.segment import Found, converse, open_link, own_mac

log = logging.getLogger("notfall-agent")

ASK_S = 1.5
_NET = Path("/sys/class/net")
_IPV6 = Path("/proc/sys/net/ipv6/conf")


def ask_own(
    addresses: Sequence[Address], cards: Sequence[str], macs: FrozenSet[str], limit: float = ASK_S
) -> Dict[str, FrozenSet[str]]:
    """Who answers for which address; ``cards`` are up. Ends early when one of ``macs`` answers."""
    questions: List[Tuple[str, int, List[str]]] = []
    for card in cards:
        for vlan in sorted({one.vlan for one in addresses}):
            asked = [one.address for one in addresses if one.vlan == vlan and card in one.cards]
            if asked:
                questions.append((card, vlan, asked))
    found: Dict[str, FrozenSet[str]] = {}
    if not questions:
        return found
    with ThreadPoolExecutor(2 * len(questions)) as threads:
        asking = [
            threads.submit(_ask, question, card, vlan, asked, macs, limit)
            for card, vlan, asked in questions
            for question in (_ask_arp, _ask_neighbours)
        ]
        for one in asking:
            for address, heard in one.result().items():
                found[address] = found.get(address, frozenset()) | heard
    return found


_Question = Callable[[str, int, Sequence[str], FrozenSet[str], float], Found]


def _ask(
    question: _Question,
    card: str,
    vlan: int,
    asked: Sequence[str],
    macs: FrozenSet[str],
    limit: float,
) -> Found:
    try:
        return question(card, vlan, asked, macs, limit)
    except OSError as error:
        log.warning("%s cannot be asked on (%s)", card, error)
        return {}


def _ask_arp(
    card: str, vlan: int, asked: Sequence[str], macs: FrozenSet[str], limit: float
) -> Found:
    wanted = [one for one in map(ip_address, asked) if isinstance(one, IPv4Address)]
    if not wanted:
        return {}
    with open_link(card, packets.ARP, everything=True) as link:
        mac = own_mac(link)
        loud = [packets.arp_question(one, mac, answer_to=packets.EVERYBODY) for one in wanted]
        usual = [packets.arp_question(one, mac) for one in wanted]
        names = {str(one) for one in wanted}

        def read(frame: bytes) -> Optional[packets.Answer]:
            answer = packets.read_arp_user(frame)
            return answer if answer and answer[0] in names else None

        rounds = [loud, usual, loud]
        return converse(link, rounds, read, limit, lambda found: _known(found, macs), vlan)


def _ask_neighbours(
    card: str, vlan: int, asked: Sequence[str], macs: FrozenSet[str], limit: float
) -> Found:
    wanted = [one for one in map(ip_address, asked) if isinstance(one, IPv6Address)]
    if not wanted:
        return {}
    with open_link(card, packets.IPV6, everything=True) as link:
        frames = [packets.neighbour_probe(one, own_mac(link)) for one in wanted]
        names = {str(one) for one in wanted}

        def read(frame: bytes) -> Optional[packets.Answer]:
            answer = packets.read_neighbour(frame, b"")
            return answer if answer and answer[0] in names else None

        return converse(link, [frames] * 3, read, limit, lambda found: _known(found, macs), vlan)


def _known(found: Found, macs: FrozenSet[str]) -> bool:
    return any(heard & macs for heard in found.values())


# -- cards -----------------------------------------------------------------------------------------


def named_now(cards: Sequence[Card]) -> Dict[str, str]:
    """What the remembered cards are called now: by MAC, else by name. Old name -> new name."""
    macs = {_text(one / "address"): one.name for one in _NET.iterdir() if is_card(one.name)}
    found = {}
    for card in cards:
        if card.mac in macs:
            found[card.name] = macs[card.mac]
        elif card.name in macs.values():
            found[card.name] = card.name
    return found


def is_card(name: str) -> bool:
    return (_NET / name / "device").exists()


def all_cards() -> List[str]:
    return sorted(one.name for one in _NET.iterdir() if is_card(one.name))


def is_settled(name: str) -> bool:
    """udev has named it: an interface that is up can't be renamed on older kernels."""
    if not Path("/run/udev/control").exists():
        return True
    index = _text(_NET / name / "ifindex")
    return Path(f"/run/udev/data/n{index}").exists()


@contextmanager
def raised(cards: Sequence[str], patience: float) -> Iterator[List[str]]:
    """Those of the cards that have a carrier, up inside the block; waits for it so long."""
    done: List[Tuple[str, str]] = []
    try:
        for card in cards:
            if int(_text(_NET / card / "flags") or "0", 16) & 1:
                continue  # it was up before, and stays so
            switch = _IPV6 / card / "disable_ipv6"
            done.append((card, _text(switch)))
            _write(switch, "1")
            try:
                commands.run(["ip", "link", "set", "dev", card, "up"])
            except NotfallError as error:
                log.warning("%s", error)
        until = time.monotonic() + patience
        while time.monotonic() < until and not all(_carries(one) for one in cards):
            time.sleep(0.05)
        yield [one for one in cards if _carries(one)]
    finally:
        for card, before in done:
            try:
                commands.run(["ip", "link", "set", "dev", card, "down"])
            except NotfallError as error:
                log.warning("%s", error)
            _write(_IPV6 / card / "disable_ipv6", before)


def _carries(card: str) -> bool:
    return _text(_NET / card / "carrier") == "1"


def _text(path: Path) -> str:
    try:
        return path.read_text().strip().lower()
    except OSError:
        return ""


def _write(path: Path, text: str) -> None:
    if not text:
        return
    try:
        path.write_text(text)
    except OSError as error:
        log.warning("%s: %s", path, error)
