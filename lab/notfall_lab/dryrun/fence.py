"""Management boards of the simulated machines: each that is named answers, and obeys."""

from __future__ import annotations

from pathlib import Path

from notfall_lab.dryrun.world import World
from notfallserver.server.fence.device import FenceDevice, read_device
from notfallserver.server.fence.order import Fence, FencePower, agents
from notfallserver.server.records.primaries import Primaries
from notfallserver.wire.errors import NotfallError

OBEYS_S = 3.0
SILENT = "192.0.2.66"
"""The address of a board that does not answer."""


class PaperFence(Fence):
    def __init__(self, world: World, primaries: Primaries) -> None:
        super().__init__(Path())
        self._world = world
        self._primaries = primaries

    def agents(self) -> list[str]:
        return agents()

    def status(self, device: FenceDevice) -> FencePower:
        alive = self._world.is_alive(self._machine(device))
        return FencePower.ON if alive else FencePower.OFF

    def switch_off(self, device: FenceDevice, within: float) -> None:
        machine = self._machine(device)
        self._world.rest(self._world.lasting(OBEYS_S))
        self._world.die(machine)

    def _machine(self, device: FenceDevice) -> str:
        if device.options.get("ip") == SILENT:
            raise NotfallError("fence-failed", f"{device.place} does not answer.", status=409)
        return next(row.uuid for row in self._primaries.all() if read_device(row.notes) == device)
