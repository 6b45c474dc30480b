"""What is true in the simulated world, and the buttons by which people change it. Thread-safe."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field

from notfallserver.wire.facts import Machine

ROOM = 2 << 40
"""The pool's size in bytes."""
MEMORY = 16 << 30
"""The emergency server's, in bytes."""


@dataclass
class Server:
    """One server of the company; ``made_by`` is the recovery that made this machine."""

    uuid: str
    name: str
    machine: Machine
    alive: bool = True
    starts: bool = True  # whether its stand-in will
    made_by: str = ""
    boot: str = field(default_factory=lambda: secrets.token_hex(8))


class World:
    """``speed`` is how many times faster than life work is; what is shown stays readable to 20."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self.ended = threading.Event()
        self.cut_off = False
        self.used = ROOM * 2 // 5
        self.memory = MEMORY
        self._servers: dict[str, Server] = {}
        self._lock = threading.Lock()

    def lasting(self, seconds: float) -> float:
        """How long something takes here that takes ``seconds`` in life."""
        return seconds / self.speed

    def rest(self, seconds: float) -> None:
        """Like ``time.sleep``, but over at once when the world ends."""
        self.ended.wait(seconds)

    @property
    def servers(self) -> list[Server]:
        with self._lock:
            return list(self._servers.values())

    def put(self, server: Server) -> None:
        with self._lock:
            self._servers[server.uuid] = server

    def server(self, uuid: str) -> Server | None:
        """None for one that was removed, or added as a row only."""
        with self._lock:
            return self._servers.get(uuid)

    def is_alive(self, uuid: str) -> bool:
        server = self.server(uuid)
        return server is not None and server.alive

    # -- buttons ---------------------------------------------------------------------------------

    def die(self, uuid: str) -> None:
        """Its power supply burns."""
        self._change(uuid, alive=False)

    def come_back(self, uuid: str) -> None:
        """Somebody switches the old machine on."""
        self._change(uuid, alive=True, made_by="", boot=secrets.token_hex(8))

    def replace(self, uuid: str, machine: Machine, recovery: str) -> None:
        """A machine that a recovery wrote starts from its own disks."""
        values = {"machine": machine, "made_by": recovery, "boot": secrets.token_hex(8)}
        self._change(uuid, alive=True, **values)

    def let_start(self, uuid: str, starts: bool) -> None:
        self._change(uuid, starts=starts)

    def fill(self, share: float) -> None:
        """The pool is full to this share."""
        self.used = int(ROOM * share)

    def shrink(self, gib: float) -> None:
        """The emergency server has only so much memory."""
        self.memory = int(gib * (1 << 30))

    def _change(self, uuid: str, **values: object) -> None:
        with self._lock:
            for key, value in values.items():
                setattr(self._servers[uuid], key, value)


def steps(seconds: float) -> list[float]:
    """When to show progress in a work of ``seconds``: moments from its begin, five a second."""
    count = max(2, min(200, round(seconds * 5)))
    return [seconds * (at + 1) / count for at in range(count)]
