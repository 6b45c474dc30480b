"""The switch-back, step by step: each step notes that it is done, so a restarted job goes on.

Until the target reboots, everything can be taken back: the stand-in's disks are untouched and it
is started again. After that only the guard may allow it, because the target may be alive.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from notfallserver.server.cycle.recovery.copying import Link
from notfallserver.server.cycle.runner import JobContext
from notfallserver.server.vm.hypervisor import LIVE, Hypervisor, MachineState
from notfallserver.wire.errors import NotfallError

SHUT_DOWN_WITHIN = 300.0
BACK_WITHIN = 1200.0
"""The recovered primary must be heard within so many seconds after the reboot."""


@dataclass
class SwitchTimes:
    """Seconds of each step."""

    steps: dict[str, float] = field(default_factory=dict)
    _at: float = field(default_factory=time.monotonic)

    def took(self, step: str) -> None:
        now = time.monotonic()
        self.steps[step] = round(now - self._at, 2)
        self._at = now


def stop_standin(ctx: JobContext, hypervisor: Hypervisor, name: str) -> None:
    """Shut the stand-in down as a person would."""
    if hypervisor.state(name) in LIVE:
        ctx.progress("shutting the stand-in down")
        hypervisor.shutdown(name)
        began = asked = time.monotonic()
        while not hypervisor.wait_off(name, 1.0):
            ctx.check()
            if time.monotonic() - began > SHUT_DOWN_WITHIN:
                raise NotfallError(
                    "stand-in-does-not-stop",
                    f"The stand-in did not shut down within {SHUT_DOWN_WITHIN:.0f} s.",
                    "Shut it down from inside, then switch back again.",
                )
            if time.monotonic() - asked > 30:  # a busy guest may miss the power button
                hypervisor.shutdown(name)
                asked = time.monotonic()


def hand_back(
    ctx: JobContext,
    link: Link,
    hypervisor: Hypervisor,
    name: str,
    take_capture: Callable[[], tuple[str, int]],
    original: dict[str, Any],
) -> tuple[SwitchTimes, list[str]]:
    """From the working stand-in to the rebooting target; ``ctx.notes`` hold what is done."""
    times = SwitchTimes()
    if "final" not in ctx.notes:
        stop_standin(ctx, hypervisor, name)
        times.took("shut_down")
        stamp, changed = take_capture()
        ctx.note(final=stamp, final_changed=changed)
        times.took("capture")
    if not ctx.notes.get("adapted"):
        pulled = link.pull(ctx, str(ctx.notes["final"]), final=True)
        ctx.note(written=pulled.written, verified=pulled.verified)
        times.took("last_delta")
        changes = link.adapt(ctx, original)
        ctx.note(adapted=True, changes=changes)
        times.took("adapt")
    ctx.note(rebooting=True)
    link.reboot(ctx)
    times.took("reboot")
    return times, list(ctx.notes.get("changes", []))


def await_primary(ctx: JobContext, back: Callable[[], bool]) -> float:
    """Wait until the recovered primary is heard; returns the seconds."""
    began = time.monotonic()
    while not back():
        if time.monotonic() - began > BACK_WITHIN:
            raise NotfallError(
                "primary-not-back",
                f"The recovered machine was not heard within {BACK_WITHIN:.0f} s.",
                "Look at its screen. If it does not start, switch it off and undo the switch-back: "
                "the stand-in then works on.",
                status=504,
            )
        ctx.progress("waiting for the recovered primary")
        ctx.sleep(1)
    return time.monotonic() - began


def bring_back_standin(hypervisor: Hypervisor, name: str) -> None:
    """The way back: the stand-in works on with its own disks."""
    state = hypervisor.state(name)
    if state is MachineState.PAUSED:
        hypervisor.resume(name)
    elif state not in LIVE:
        hypervisor.start(name)
