"""Captures of running stand-ins: one at a time per primary."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from notfallserver.server.cycle.emergency.capture import Capture, capture
from notfallserver.server.cycle.hands import Hands
from notfallserver.server.cycle.standin import machine_name
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.vm.hypervisor import Hypervisor, MachineState, standing_still
from notfallserver.wire.errors import NotfallError


class Captures:
    """Takes captures; thread-safe."""

    def __init__(self, hypervisor: Hypervisor, hands: Hands) -> None:
        self._hypervisor = hypervisor
        self._hands = hands
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def take(
        self, store: PrimaryStore, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> Capture:
        """A version of the stand-in as it is now; it works on meanwhile, but for a short pause."""
        standin = store.standin()
        if standin is None:
            raise NotfallError(
                "no-stand-in", "This primary has no stand-in to capture.", status=409
            )
        with self._locks[store.uuid]:
            return capture(
                store, standin, self._still(store.uuid), self._consistency(store.uuid), progress
            )

    def _consistency(self, primary: str) -> str:
        """A stand-in that shut down has whole filesystems; not one whose power was cut."""
        name = machine_name(primary)
        off = self._hypervisor.state(name) is MachineState.OFF
        return "filesystem" if off and self._hypervisor.ended_in_order(name) else "crash"

    @contextmanager
    def _still(self, primary: str) -> Iterator[None]:
        """Nobody switches it on or off meanwhile: all its disks are of one moment."""
        with self._hands.on(primary), standing_still(self._hypervisor, machine_name(primary)):
            yield
