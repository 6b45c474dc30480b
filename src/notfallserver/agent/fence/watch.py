"""While this machine is off the network: keep it so, tell the server, see when it is over.

It ends by itself only when an emergency server says that there is no stand-in any more, and nobody
answers for this machine's addresses. Silence alone is no reason: a stand-in that restarts is
silent for minutes. A restart of this machine asks anew; ``agent.pyz unfence`` is a person's word.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Dict, List, Optional, Sequence
from urllib.parse import urlsplit

from notfallserver.agent.fence import signs
from notfallserver.agent.fence.apart import (
    ORDER,
    Apart,
    cards_apart,
    disguise,
    give_back,
    inside,
    put_apart,
    read_apart,
)
from notfallserver.agent.fence.ask import all_cards, ask_own
from notfallserver.agent.fence.boot import configured, placed
from notfallserver.agent.fence.judge import Finding, judge
from notfallserver.agent.fence.own import Network, recall
from notfallserver.agent.fence.units import restart_network, stop_watch
from notfallserver.agent.place import boot_id
from notfallserver.agent.role import recovery
from notfallserver.agent.servers import known_servers
from notfallserver.agent.stop import Stop
from notfallserver.wire.client import Client, tls_context
from notfallserver.wire.errors import NotfallError

log = logging.getLogger("notfall-agent")

EVERY_S = 10.0
_SETTLE_S = 5.0
"""A link that is new needs a moment."""
_CALL_S = 5.0


def stay_off(directory: Path, stop: Stop) -> None:
    """Returns when the network was given back."""
    apart = read_apart()
    if apart is None:
        return
    network = recall(directory)
    # On order all cards have addresses; at the start those that had some were left alone.
    spared = set() if apart.because == ORDER else configured()
    known: List[str] = []
    loud = not apart.cards
    while True:
        late = [one for one in all_cards() if one not in spared]
        apart = put_apart(apart, late)
        held = cards_apart()
        new = [one for one in held if one not in known]
        if new:
            disguised = inside(partial(disguise, new))
            known += disguised
            signs.show(apart, loud)
            loud = False
            stop.wait(_SETTLE_S)
        stay = inside(partial(_ask_servers, directory, network, known, apart))
        if stay is False and not look(network).taken:
            log.warning("the emergency server has no stand-in any more: the network comes back")
            hand_back(apart)
            return
        stop.wait(EVERY_S)


def look(network: Network) -> Finding:
    """Does somebody answer for this machine, seen from its cards that are apart?"""
    held = cards_apart()
    names = {card.name: card.name for card in network.cards if card.name in held}
    addresses = placed(network, names, held)
    if not held:
        return Finding(False, False, ())
    return judge(addresses, network.macs, inside(lambda: ask_own(addresses, held, network.macs)))


def hand_back(apart: Apart) -> None:
    give_back(apart)
    signs.take_away()
    restart_network()


def unfence(directory: Path, force: bool) -> str:
    """On a person's word; what to tell the person."""
    apart = read_apart()
    if apart is None:
        return "This machine is not kept off the network."
    finding = look(recall(directory))
    if finding.taken and not force:
        who = ", ".join(f"{address} ({mac})" for address, mac in finding.answers[:3])
        raise NotfallError(
            "stand-in-answers",
            f"The stand-in of this machine works: {who}. Two of them would damage data.",
            "End the stand-in on the emergency server first ('notfall undo NAME'). In spite of "
            "it: agent.pyz unfence --force",
        )
    stop_watch()
    hand_back(apart)
    return "The network comes up."


def _ask_servers(
    directory: Path, network: Network, cards: Sequence[str], apart: Apart
) -> Optional[bool]:
    """Whether to stay off, as the servers say; None when none can be reached."""
    told: List[bool] = []
    for server in known_servers(directory):
        try:
            url = server.settings().url
            near = network.servers.get(url, ())
            answer = _ask_server(server.directory, directory, url, near, cards, apart)
        except NotfallError as error:
            log.info("%s", error)
            continue
        if answer is not None:
            told.append(answer)
    return any(told) if told else None


def _ask_server(
    files: Path, machine: Path, url: str, near: Sequence[str], cards: Sequence[str], apart: Apart
) -> Optional[bool]:
    """By link-local addresses, on each card: this machine's own ones are the stand-in's."""
    body: Dict[str, object] = {
        "boot_id": boot_id(),
        "recovery": recovery(machine),
        "because": apart.because,
    }
    context = tls_context(
        (files / "ca.pem").read_text(), str(files / "cert.pem"), str(files / "key.pem")
    )
    port = urlsplit(url).port or 443
    for card in cards:
        for address in near:
            client = Client(f"https://[{address}%{card}]:{port}", context, timeout=_CALL_S)
            try:
                answer = client.call("POST", "/agent/v1/kept-off", body)
            except NotfallError as error:
                log.info("%s", error)
                continue
            finally:
                client.close()
            return answer.get("stay") is not False
    return None
