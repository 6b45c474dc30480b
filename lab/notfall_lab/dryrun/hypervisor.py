"""A hypervisor of paper: machines have a state and a screen, and nothing else."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from notfall_lab.dryrun.world import World
from notfallserver.server.vm.hypervisor import HypervisorInfo, MachineState
from notfallserver.server.vm.spec import Accelerator, VmSpec
from notfallserver.wire.errors import NotfallError

SCREENS = Path(__file__).parent / "screens"
"""Pictures of a guest that starts, in order, taken of a real one; each for :data:`SHOWN_S`."""
SHOWN_S = 4.0
STOPS_S = 4.0


def not_here(what: str) -> NotfallError:
    return NotfallError(
        "not-in-the-dry-run",
        f"The dry run has no {what}: it needs real disks and machines.",
        "Look at it with 'make demo KEEP=1'.",
        status=409,
    )


class PaperHypervisor:
    """See :class:`notfallserver.server.vm.hypervisor.Hypervisor`; what isn't here says so."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._states: dict[str, MachineState] = {}
        self._since: dict[str, float] = {}
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        def refuse(*_values: object, **_named: object) -> NoReturn:
            raise not_here(name)

        return refuse

    def define(self, spec: VmSpec) -> None:
        self._set(spec.name, MachineState.OFF)

    def start(self, name: str) -> None:
        self._since[name] = time.monotonic()
        self._set(name, MachineState.RUNNING)

    def state(self, name: str) -> MachineState:
        with self._lock:
            return self._states.get(name, MachineState.ABSENT)

    def fell_over(self, name: str) -> bool:
        return False

    def held(self, name: str) -> bool:
        return False

    def wait_off(self, name: str, timeout: float) -> bool:
        until = time.monotonic() + timeout
        while self.state(name) is MachineState.ENDING and time.monotonic() < until:
            if self.age(name) > self._world.lasting(STOPS_S):
                self._set(name, MachineState.OFF)
            self._world.rest(0.05)
        return self.state(name) in (MachineState.OFF, MachineState.ABSENT)

    def shutdown(self, name: str) -> None:
        if self.state(name) is MachineState.RUNNING:
            self._since[name] = time.monotonic()
            self._set(name, MachineState.ENDING)

    def kill(self, name: str) -> None:
        self._set(name, MachineState.OFF)

    def pause(self, name: str) -> None:
        self._set(name, MachineState.PAUSED)

    def resume(self, name: str) -> None:
        self._set(name, MachineState.RUNNING)

    def reset(self, name: str) -> None:
        self.start(name)

    def undefine(self, name: str) -> None:
        with self._lock:
            self._states.pop(name, None)

    def screenshot(self, name: str, path: Path) -> None:
        if self.state(name) is not MachineState.RUNNING:
            raise NotfallError("no-such-machine", f"There is no machine {name}.", status=404)
        pictures = sorted(SCREENS.glob("*.png"))
        place = int(self.age(name) / self._world.lasting(SHOWN_S))
        path.write_bytes(pictures[min(place, len(pictures) - 1)].read_bytes())

    def info(self) -> HypervisorInfo:
        return HypervisorInfo("paper", "paper", (Accelerator.TCG,), 4, 16 << 30)

    def age(self, name: str) -> float:
        """Seconds since it was started, or asked to end."""
        return time.monotonic() - self._since.get(name, 0.0)

    def _set(self, name: str, state: MachineState) -> None:
        with self._lock:
            self._states[name] = state
