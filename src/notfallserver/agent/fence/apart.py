"""Taking this machine's cards off the network, and giving them back.

The cards go into a network namespace of their own, in which nothing else of the machine is:
whatever sets up the network does not find them, and no program can send or hear through them. The
namespace has a name, so it outlives whoever made it; only a restart of the machine, which asks
anew, or :func:`give_back` ends it. A card that can't go there (radio) loses its driver instead.

``/run/notfall-agent/apart.json`` says which cards and why. It is written before the first card goes
and removed after the last one is back; whatever is killed in between is done again.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple, TypeVar

from notfallserver.agent import commands
from notfallserver.agent.place import ROOT
from notfallserver.wire.errors import NotfallError

log = logging.getLogger("notfall-agent")

SPACE = "notfall-apart"
STAND_IN, TAKEN, ORDER, LEFT = "stand-in", "taken", "order", "left"
"""Why: its stand-in answered; others have all its addresses; the server said so; it handed its
work over, and can't switch itself off."""
_NET = Path("/sys/class/net")
_NEWNET = 0x40000000  # CLONE_NEWNET

T = TypeVar("T")


@dataclass(frozen=True)
class Apart:
    """``cards``: name -> the MAC it had; ``unbound``: name -> (device, driver) of sysfs."""

    because: str
    answers: Tuple[Tuple[str, str], ...] = ()
    cards: Tuple[Tuple[str, str], ...] = ()
    unbound: Tuple[Tuple[str, str, str], ...] = ()


def _file() -> Path:
    return ROOT / "apart.json"


def read_apart() -> Optional[Apart]:
    """None: this machine is not kept off the network."""
    try:
        told = json.loads(_file().read_text())
        return Apart(
            str(told["because"]),
            tuple((str(one[0]), str(one[1])) for one in told["answers"]),
            tuple((str(one[0]), str(one[1])) for one in told["cards"]),
            tuple((str(one[0]), str(one[1]), str(one[2])) for one in told["unbound"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        log.error("%s is damaged (%s): the cards stay where they are", _file(), error)
        return Apart(ORDER)


def write_apart(apart: Apart) -> None:
    _file().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = _file().with_suffix(".new")
    new.write_text(json.dumps(asdict(apart)))
    new.replace(_file())


def put_apart(apart: Apart, cards: Sequence[str]) -> Apart:
    """Take these cards away; those that were taken before stay so."""
    for card in cards:
        known = {name for name, _ in apart.cards}
        if card not in known:
            apart = replace(apart, cards=(*apart.cards, (card, _text(_NET / card / "address"))))
    write_apart(apart)
    if not cards:
        return apart
    try:
        if SPACE not in commands.run(["ip", "netns", "list"]).split():
            commands.run(["ip", "netns", "add", SPACE])
    except NotfallError as error:
        log.error("%s", error)
    for card in cards:
        try:
            commands.run(["ip", "link", "set", "dev", card, "down"])
            commands.run(["ip", "link", "set", "dev", card, "netns", SPACE])
        except NotfallError as error:
            log.warning("%s; its driver is taken away instead", error)
            apart = _unbind(apart, card)
        else:
            log.warning("%s is off the network", card)
    return apart


def _unbind(apart: Apart, card: str) -> Apart:
    device = (_NET / card / "device").resolve()
    driver = (device / "driver").resolve()
    apart = replace(apart, unbound=(*apart.unbound, (card, device.name, str(driver))))
    write_apart(apart)
    try:
        (driver / "unbind").write_text(device.name)
    except OSError as error:
        log.error("%s can't be taken off the network (%s): pull its cable", card, error)
    return apart


def give_back(apart: Apart) -> None:
    """The network comes up as if the cards were plugged in just now."""
    held = cards_apart()
    for card, mac in apart.cards:
        if card not in held:
            continue
        for change in (["down"], ["address", mac] if mac else ["down"], ["netns", "1"]):
            _try(["ip", "-n", SPACE, "link", "set", "dev", card, *change])
    for _, device, driver in apart.unbound:
        try:
            (Path(driver) / "bind").write_text(device)
        except OSError as error:
            log.error("%s is not back (%s): restart the machine", device, error)
    if cards_apart():
        raise NotfallError(
            "not-given-back",
            f"Not all network cards could be given back: {', '.join(cards_apart())}.",
            "Restart the machine.",
        )
    _try(["ip", "netns", "del", SPACE])
    _file().unlink(missing_ok=True)


def cards_apart() -> List[str]:
    """Those in the namespace now."""
    try:
        if SPACE not in commands.run(["ip", "netns", "list"]).split():
            return []
    except NotfallError:
        return []
    told = commands.read_json(["ip", "-n", SPACE, "-j", "link", "show"])
    names = [str(one.get("ifname")) for one in told or [] if one.get("link_type") != "loopback"]
    return [one for one in names if one not in ("sit0", "ip6tnl0", "tunl0")]


def disguise(cards: Sequence[str]) -> List[str]:
    """Other MACs for cards that are apart, and up with them; those for which it worked.

    With its own one a card would draw to itself what is meant for the stand-in. No address but
    the link-local one comes of it.
    """
    for key in ("all", "default"):
        _try_write(Path(f"/proc/sys/net/ipv6/conf/{key}/accept_ra"), "0")
    done = []
    for card in cards:
        mac = bytes([0x02]) + os.urandom(5)
        _try_write(Path(f"/proc/sys/net/ipv6/conf/{card}/disable_ipv6"), "0")
        if _try(["ip", "link", "set", "dev", card, "address", mac.hex(":")]):
            _try(["ip", "link", "set", "dev", card, "up"])
            done.append(card)
    return done


def inside(act: Callable[[], T]) -> T:
    """``act`` in the namespace, in a thread of its own; commands that it runs are inside, too."""
    result: Dict[str, T] = {}
    failed: List[BaseException] = []

    def work() -> None:
        try:
            with open(f"/run/netns/{SPACE}", "rb") as place:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(place.fileno(), _NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            result["it"] = act()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return result["it"]


def _try(line: Sequence[str]) -> bool:
    try:
        commands.run(line)
    except NotfallError as error:
        log.warning("%s", error)
        return False
    return True


def _try_write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        log.warning("%s: %s", path, error)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip().lower()
    except OSError:
        return ""
