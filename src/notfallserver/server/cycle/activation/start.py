"""Starting a stand-in: clone, define, start, and wait until it answers.

Own time counts from the request to the guest's first instruction and does not depend on the
image's size: the clones are reflinks and the image was adapted before.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from notfallserver.server.cycle.runner import JobContext
from notfallserver.server.cycle.standin import describe_standin, machine_name
from notfallserver.server.pool.store import Clones, PrimaryStore
from notfallserver.server.settings import Settings
from notfallserver.server.vm.hypervisor import LIVE, Hypervisor
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

ANSWER_WITHIN = 900.0
"""So many seconds a stand-in has to answer."""

Connect = Callable[[tuple[str, int], float], socket.socket]
"""Opens a TCP connection to address and port within so many seconds; raises OSError."""


@dataclass
class StartTimes:
    """How long each step took, in seconds."""

    clone: float = 0
    define: float = 0
    start: float = 0
    answer: float = 0

    def to_json(self) -> dict[str, float]:
        return {key: round(value, 3) for key, value in vars(self).items()}


@dataclass(frozen=True)
class Answer:
    """After how many seconds which TCP ports answered, and which did not in time.

    ``complete``: all that was waited for was there. ``alive``: its operating system answered.
    """

    seconds: float
    ports: list[int]
    silent: list[int]
    complete: bool
    alive: bool


def bring_up(
    settings: Settings,
    hypervisor: Hypervisor,
    store: PrimaryStore,
    prepared: Clones,
    machine: Machine,
) -> StartTimes:
    """Clone, define and start; what was done before a crash is not done again."""
    times = StartTimes()
    name = machine_name(store.uuid)
    if hypervisor.state(name) in LIVE:
        return times
    at = time.monotonic()
    record: dict[str, Any] = {
        "started_at": datetime.now(timezone.utc).isoformat(),
        "boots_by": prepared.record.get("boots_by", []),
        "clock": prepared.record.get("clock", ""),
    }
    standin = store.make_standin(prepared, record)
    times.clone, at = time.monotonic() - at, time.monotonic()
    clock = str(standin.record.get("clock", ""))
    hypervisor.define(describe_standin(settings, store.uuid, machine, standin.disks, clock))
    times.define, at = time.monotonic() - at, time.monotonic()
    hypervisor.start(name)
    times.start = time.monotonic() - at
    return times


def await_answer(
    ctx: JobContext,
    hypervisor: Hypervisor,
    name: str,
    machine: Machine,
    connect: Connect = socket.create_connection,
    within: float = ANSWER_WITHIN,
) -> Answer:
    """Wait until the stand-in ``name`` serves the ports that the original served.

    A machine that served no port is up when its operating system answers at all. A stand-in that
    runs and does not answer in time is left running: it may need a person at its console, and it
    may already hold new data.
    """
    began = time.monotonic()
    addresses = machine.addresses()
    wanted = set(machine.ports)
    answering: set[int] = set()
    while time.monotonic() - began < within:
        if hypervisor.state(name) not in LIVE:
            raise NotfallError(
                "stand-in-off",
                "The stand-in went off while it started.",
                "Look at its console log, then start an older version.",
                status=500,
            )
        ctx.progress("waiting for the service", len(answering), len(wanted))
        if not wanted and any(_alive(connect, one) for one in addresses):
            break
        answering |= {
            port
            for port in wanted - answering
            if any(_serves(connect, one, port) for one in addresses)
        }
        if wanted and answering == wanted:
            break
        ctx.sleep(0.5)
    else:
        silent = sorted(wanted - answering)
        alive = bool(answering) or any(_alive(connect, one) for one in addresses)
        return Answer(time.monotonic() - began, sorted(answering), silent, False, alive)
    return Answer(time.monotonic() - began, sorted(answering), [], True, True)


def _serves(connect: Connect, address: str, port: int) -> bool:
    try:
        with connect((address, port), 1):
            return True
    except OSError:
        return False


def _alive(connect: Connect, address: str) -> bool:
    """Whether a host is there at all: it accepts or refuses a connection instead of silence."""
    try:
        with connect((address, 9), 1):
            return True
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
