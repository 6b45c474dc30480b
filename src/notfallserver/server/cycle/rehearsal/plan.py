"""What a rehearsal may take, and from where its machine is asked. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface

from notfallserver.server.cycle.state import WITH_STANDIN, State
from notfallserver.server.host.lending import Lease
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

_TRIES = 64
_ANYCAST = 0x100
"""The last addresses of an IPv6 network have a meaning of their own (RFC 2526)."""


@dataclass(frozen=True)
class Need:
    """A primary whose stand-in would take ``memory`` bytes."""

    state: State
    memory: int


def asking_addresses(machine: Machine, avoid: Iterable[str]) -> list[str]:
    """For each network of ``machine`` an address in it, with prefix length, to ask it from.

    None of the machine's own, nor its gateway, nor one to ``avoid``: there it finds nobody.
    """
    taken = {one.lower() for one in (*machine.addresses(), machine.gateway, *avoid)}
    found: dict[str, str] = {}
    for nic in machine.nics:
        for text in nic.addresses:
            own = _read(text)
            if own is None or str(own.network) in found:
                continue
            for address in _from_the_end(own):
                if address not in taken:
                    found[str(own.network)] = f"{address}/{own.network.prefixlen}"
                    break
    return list(found.values())


def leases_of(machine: Machine) -> list[Lease]:
    """What the machine gets by DHCP where it is at home."""
    found = []
    for nic in machine.nics:
        for text in nic.leased:
            own = _read(text)
            if isinstance(own, IPv4Interface) and nic.mac:
                here = bool(machine.gateway) and _is_in(machine.gateway, own)
                found.append(Lease(nic.mac.lower(), own, machine.gateway if here else ""))
    return found


def _is_in(address: str, own: IPv4Interface) -> bool:
    try:
        return ip_address(address) in own.network
    except ValueError:
        return False


def _read(text: str) -> IPv4Interface | IPv6Interface | None:
    try:
        own = ip_interface(text)
    except ValueError:
        return None
    return None if own.ip.is_link_local or own.ip.is_loopback else own


def _from_the_end(own: IPv4Interface | IPv6Interface) -> list[str]:
    network = own.network
    # Whole networks only: a machine with /31, /32 or /128 answers to its gateway alone.
    most = network.num_addresses - 2
    first = (
        network.num_addresses - 2 - (_ANYCAST if network.version == 6 and most > _ANYCAST else 0)
    )
    return [str(network[first - one]) for one in range(min(_TRIES, most))]


def refuse_unaskable(machine: Machine, addresses: Iterable[str]) -> None:
    """Raise where nobody could tell whether the machine is up."""
    if not list(addresses):
        raise NotfallError(
            "rehearsal-unaskable",
            f"No address of {machine.hostname or 'the primary'} is known that has neighbours.",
            "Give it an address in a network, and make a new version.",
            status=409,
        )


def refuse_without_memory(free: int, own: int, others: Iterable[Need]) -> None:
    """Raise where the rehearsal would take memory that a stand-in may need; bytes.

    Free must be: what the rehearsal takes, what the stand-ins of all take that are down, and what
    the largest of those takes that are at work.
    """
    waiting = list(others)
    down = sum(one.memory for one in waiting if one.state in (State.OUTAGE, State.ACTIVATING))
    running = WITH_STANDIN - {State.ACTIVATING}
    healthy = [
        one.memory for one in waiting if one.state not in (State.OUTAGE, State.ACTIVATING, *running)
    ]
    kept = down + max(healthy, default=0)
    if free < own + kept:
        raise NotfallError(
            "rehearsal-no-memory",
            f"The rehearsal takes {own >> 20} MiB of memory, {free >> 20} MiB are free, and "
            f"{kept >> 20} MiB are kept for stand-ins that may be needed meanwhile.",
            "Give up other virtual machines on the emergency server, or give it more memory.",
            retry=True,
            status=409,
        )


def why_silent(
    answering: Sequence[int],
    silent: Sequence[int],
    addresses: Sequence[str],
    heard: bool,
    alive: bool = False,
) -> NotfallError:
    """Why a rehearsal did not pass: by the ports that answered and those that did not, whether its
    system answered at all (``alive``), and whether its network cards were ``heard``."""
    if answering or alive:
        return NotfallError(
            "rehearsal-ports-silent",
            f"It answers, but not on these ports: {', '.join(str(one) for one in silent)}.",
            "See whether these services depend on other machines: in a rehearsal there are none.",
            status=409,
        )
    if heard:
        return NotfallError(
            "rehearsal-no-address",
            f"Its network cards work, but no service answers at {', '.join(addresses)}.",
            "If it gets its address by DHCP: in a rehearsal nobody gives it one. Else look at the "
            "picture.",
            status=409,
        )
    return NotfallError(
        "rehearsal-silent",
        "It did not answer, and its network cards were never heard.",
        "Look at the picture of its screen.",
        status=409,
    )
