"""A line between two network namespaces with a rate, a delay and a loss, moved packet by packet.

Stands in for ``tc netem``, which not every kernel has: each end is a TUN device, and a process of
this module carries the packets across: those that find the queue full are dropped (tail drop, as
in a cheap router), the others leave at the line's rate and arrive ``delay`` later, or never.
The delay is of one direction, so an answer comes after twice as much.
"""

from __future__ import annotations

import argparse
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from notfallserver.server.host.run import run

_SET = 0x400454CA  # TUNSETIFF
_TUN, _NO_HEADER = 1, 0x1000
HERE, THERE = "10.78.0.1", "10.78.0.2"
"""The addresses of this side and of the other one, which is in a namespace."""


@dataclass(frozen=True)
class Link:
    """``rate`` in bits a second, ``delay`` in seconds (one way), ``loss`` is a share."""

    rate: float
    delay: float
    loss: float
    queue: float = 0.1
    """How much the line's buffer holds, in seconds of its rate."""


class _Way:
    """One direction."""

    def __init__(self, link: Link, out: int, dice: random.Random) -> None:
        self._link = link
        self._out = out
        self._dice = dice
        self._free_at = 0.0
        self._flying: list[tuple[float, int, bytes]] = []
        self._count = 0

    def send(self, packet: bytes, now: float) -> None:
        waiting = max(0.0, self._free_at - now)
        if waiting > self._link.queue:
            return
        self._free_at = now + waiting + len(packet) * 8 / self._link.rate
        if self._dice.random() >= self._link.loss:
            self._count += 1
            arrival = self._free_at + self._link.delay
            heapq.heappush(self._flying, (arrival, self._count, packet))

    def deliver(self, now: float) -> float:
        """Hand over what has arrived; returns when the next packet will."""
        while self._flying and self._flying[0][0] <= now:
            os.write(self._out, heapq.heappop(self._flying)[2])
        return self._flying[0][0] if self._flying else now + 1.0


def _device(name: str) -> int:
    handle = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(handle, _SET, struct.pack("16sH22x", name.encode(), _TUN | _NO_HEADER))
    return handle


def carry(link: Link, name: str) -> None:
    """Make both ends (NAME0 here, NAME1 in the namespace NAME) and move packets for ever."""
    ends = [_device(f"{name}{number}") for number in range(2)]
    run(["ip", "link", "set", f"{name}1", "netns", name])
    for at, (address, number) in enumerate(((HERE, 0), (THERE, 1))):
        inside = ["ip", "netns", "exec", name] if at else []
        run([*inside, "ip", "addr", "add", f"{address}/24", "dev", f"{name}{number}"])
        run([*inside, "ip", "link", "set", f"{name}{number}", "up"])
    print("up", flush=True)
    dice = random.Random(7)
    ways = {ends[0]: _Way(link, ends[1], dice), ends[1]: _Way(link, ends[0], dice)}
    following = time.monotonic()
    while True:
        ready = select.select(ends, [], [], max(0.0, following - time.monotonic()))[0]
        now = time.monotonic()
        for end in ready:
            ways[end].send(os.read(end, 65536), now)
        following = min(way.deliver(now) for way in ways.values())


@contextmanager
def line(link: Link, congestion: str, name: str = "nfline") -> Iterator[list[str]]:
    """Within the block the line is there; gives the words that run a command on the other side.

    ``congestion`` is the other side's control of congestion (``cubic``, ``bbr``).
    """
    with ExitStack() as cleanup:
        run(["ip", "netns", "add", name])
        cleanup.callback(run, ["ip", "netns", "del", name])
        inside = ["ip", "netns", "exec", name]
        told = [link.rate, link.delay, link.loss]
        carrier = subprocess.Popen(
            [sys.executable, "-m", "bench.wire", name, *(str(one) for one in told)],
            stdout=subprocess.PIPE,
        )
        cleanup.enter_context(carrier)
        cleanup.callback(carrier.terminate)
        if carrier.stdout is None or carrier.stdout.readline() != b"up\n":
            raise RuntimeError("the line did not come up")
        # By the route, because a namespace may not choose from all that the kernel has.
        route = ["ip", "route", "replace", f"{HERE}/32", "dev", f"{name}1", "src", THERE]
        run([*inside, *route, "congctl", congestion])
        yield inside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("rate", type=float)
    parser.add_argument("delay", type=float)
    parser.add_argument("loss", type=float)
    given = parser.parse_args()
    carry(Link(given.rate, given.delay, given.loss), given.name)


if __name__ == "__main__":
    main()
