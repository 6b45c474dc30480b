"""Asking addresses for signs of life, all at once, within a time limit.

:func:`ask` never raises because of the network: what could not be asked is ``None``. It blocks for
``limit`` seconds at most and belongs into a thread without an event loop of its own.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address

from icmplib import ICMPLibError, async_ping

from notfallserver.server.cycle.outage.legs import Map, without_zone
from notfallserver.server.cycle.outage.segment import (
    ask_arp,
    ask_neighbours,
    macs_of_our_machines,
)
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.segment import Found

log = logging.getLogger(__name__)

LIMIT = 1.2
"""Seconds a whole :func:`ask` takes when nothing answers; part of the 3 s of an activation."""
_PINGS = 3
_THREADS = 32
NEVER_HEARD = "it lies in no network of this server, and has never answered it"

_Address = IPv4Address | IPv6Address


class Way(StrEnum):
    """How an address was asked."""

    PING = "ping"
    ARP = "arp"
    NEIGHBOUR = "neighbour"
    TCP = "tcp"


@dataclass(frozen=True)
class Sighting:
    """What one question brought: ``alive`` None means that it could not be asked.

    ``ours`` says that a virtual machine of this very server answered. With TCP ``alive`` counts a
    refusal too, ``port_open`` doesn't.
    """

    way: Way
    address: str
    alive: bool | None
    mac: str = ""
    ours: bool = False
    port: int = 0
    port_open: bool = False
    trouble: str = ""

    @property
    def name(self) -> str:
        """Of what was asked, for remembering what answered: ``arp 10.0.0.5``, ``tcp:80 ...``."""
        return (
            f"{self.way}:{self.port} {self.address}" if self.port else f"{self.way} {self.address}"
        )


def ask(
    addresses: Sequence[str],
    *,
    where: Map | None = None,
    ports: Sequence[int] = (),
    claim: bool = False,
    limit: float = LIMIT,
) -> tuple[Sighting, ...]:
    """Ask every address in every way; ``where`` says on which segment each, None: on none.

    ``claim`` asks as one who is about to use the addresses: another server that does the same at
    the same moment hears it, and a machine that is just starting may give way.
    """
    known = list(dict.fromkeys(_read(one) for one in addresses))
    if not known:
        return ()
    return asyncio.run(_ask_all(known, where or Map(), ports, claim, limit))


def weigh(sightings: Sequence[Sighting], where: Map, seen: Collection[str]) -> tuple[Sighting, ...]:
    """Silence counts only where an answer would have been heard; ``seen`` has the names of what
    has answered before. Pure."""
    return tuple(
        one
        if one.alive is not False or where.of(one.address).near or one.name in seen
        else replace(one, alive=None, trouble=NEVER_HEARD)
        for one in sightings
    )


def lives(sightings: Sequence[Sighting]) -> bool:
    """Whether anything answered that is not a machine of this server."""
    return any(one.alive and not one.ours for one in sightings)


def _read(address: str) -> _Address:
    try:
        return ip_address(address.split("/", maxsplit=1)[0])
    except ValueError:
        raise NotfallError(
            "bad-address", f"'{address}' is no IP address.", "Write it as numbers, not as a name."
        ) from None


async def _ask_all(
    known: list[_Address], where: Map, ports: Sequence[int], claim: bool, limit: float
) -> tuple[Sighting, ...]:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(_THREADS, "probe"))
    plain = [str(one) for one in known if "%" not in str(one)]  # a router's, it needs no ping
    questions = [_ping(one, limit) for one in plain]
    questions += [_connect(one, port, limit) for one in plain for port in ports]
    segments: dict[str, list[_Address]] = defaultdict(list)
    for one in known:
        if where.of(str(one)).interface:
            segments[where.of(str(one)).interface].append(one)
    questions += [
        _on_segment(asked, interface, where, claim, limit) for interface, asked in segments.items()
    ]
    answers = [one for group in await asyncio.gather(*questions) for one in group]
    ours = {one.address for one in answers if one.ours}
    # A machine of ours that has the address on the segment is also the one that answers its pings.
    foreign = {one.address for one in answers if one.mac and not one.ours}
    return tuple(
        replace(one, ours=True) if one.address in ours - foreign and one.alive else one
        for one in answers
    )


async def _ping(address: str, limit: float) -> list[Sighting]:
    """Several echo requests at short intervals, not one after the other's time-out."""
    if trouble := _unroutable(address):
        return [Sighting(Way.PING, address, None, trouble=trouble)]
    step = limit / (_PINGS + 1)
    waiting = {
        asyncio.create_task(_echo(address, n * step, limit - n * step)) for n in range(_PINGS)
    }
    alive: bool | None = None
    trouble = ""
    while waiting and not alive:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            try:
                alive = task.result() or alive or False
            except (ICMPLibError, OSError) as error:
                trouble = str(error)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return [Sighting(Way.PING, address, alive, trouble="" if alive is not None else trouble)]


async def _echo(address: str, delay: float, timeout: float) -> bool:
    await asyncio.sleep(delay)
    host = await async_ping(address, count=1, timeout=timeout, privileged=True)
    return bool(host.is_alive)


def _unroutable(address: str) -> str:
    """Why nothing can be sent there at all; no packet leaves for finding out."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
    except OSError as error:
        return error.strerror or str(error)
    return ""


async def _connect(address: str, port: int, limit: float) -> list[Sighting]:
    alive: bool | None = False
    is_open, trouble = False, ""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), limit)
    except ConnectionRefusedError:
        alive = True  # somebody is there to refuse
    except TimeoutError:
        pass
    except OSError as error:
        # No route, or the neighbour doesn't answer: nothing was heard, that is all we know.
        alive, trouble = None, error.strerror or str(error)
    else:
        alive = is_open = True
        writer.close()
    return [Sighting(Way.TCP, address, alive, port=port, port_open=is_open, trouble=trouble)]


async def _on_segment(
    known: list[_Address], interface: str, where: Map, claim: bool, limit: float
) -> list[Sighting]:
    old = [one for one in known if isinstance(one, IPv4Address)]
    new = [one for one in known if isinstance(one, IPv6Address)]
    own = [where.of(str(one)).own for one in old]
    senders = [IPv4Address(0 if claim or not one else one) for one in own]
    # Local answers come in milliseconds; the rest of the limit belongs to looking up the port.
    time = limit * 0.8
    arp, neighbours = await asyncio.gather(
        asyncio.to_thread(_heard, lambda: ask_arp(old, interface, time, senders), interface, old),
        asyncio.to_thread(_heard, lambda: ask_neighbours(new, interface, time), interface, new),
    )
    machines: frozenset[str] = frozenset()
    if arp.macs or neighbours.macs:
        machines = await asyncio.to_thread(_our_machines, interface)
    told = []
    for way, asked, heard in ((Way.ARP, old, arp), (Way.NEIGHBOUR, new, neighbours)):
        for one in asked:
            plain = str(without_zone(str(one))) if way is Way.NEIGHBOUR else str(one)
            macs = heard.macs.get(plain, frozenset())
            told.append(
                Sighting(
                    way,
                    str(one),
                    None if heard.trouble else bool(macs),
                    mac=" and ".join(sorted(macs)),
                    ours=bool(macs) and macs <= machines,
                    trouble=heard.trouble,
                )
            )
    return told


@dataclass(frozen=True)
class _Heard:
    macs: Found
    trouble: str = ""


def _heard(question: Callable[[], Found], interface: str, asked: Sequence[_Address]) -> _Heard:
    if not asked:
        return _Heard({})
    try:
        return _Heard(question())
    except OSError as error:
        return _Heard({}, f"interface {interface}: {error.strerror or error}")


def _our_machines(interface: str) -> frozenset[str]:
    """None of ours when the bridge can't be asked: the answer then counts as a stranger's."""
    try:
        return macs_of_our_machines(interface)
    except (NotfallError, ValueError) as error:
        log.warning("cannot tell which machines on %s are ours: %s", interface, error)
        return frozenset()
