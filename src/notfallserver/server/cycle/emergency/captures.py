"""Captures of running stand-ins: one at a time per primary."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from notfallserver.server.cycle.emergency.capture import Capture, capture
from notfallserver.server.cycle.standin import machine_name
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.vm.hypervisor import LIVE, Hypervisor, standing_still
from notfallserver.wire.errors import NotfallError


class Captures:
    """Takes captures; thread-safe."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._hypervisor = hypervisor
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def take(
        self, store: PrimaryStore, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> Capture:
        """A version of the stand-in as it is now; it works on meanwhile, but for a short pause.

        A stand-in that is off was shut down: its filesystems are whole.
        """
        standin = store.standin()
        if standin is None:
            raise NotfallError(
                "no-stand-in", "This primary has no stand-in to capture.", status=409
            )
        name = machine_name(store.uuid)
        live = self._hypervisor.state(name) in LIVE
        still: AbstractContextManager[object] = (
            standing_still(self._hypervisor, name) if live else nullcontext()
        )
        with self._locks[store.uuid]:
            return capture(store, standin, still, "crash" if live else "filesystem", progress)
