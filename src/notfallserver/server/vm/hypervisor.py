"""The interface to whatever runs virtual machines.

Every function may be repeated without harm: starting what runs, stopping what is off and removing
what is absent succeed. Failures are :class:`NotfallError`; ``hypervisor-unreachable`` (retry
helps), ``no-such-machine``, ``machine-off``, ``machine-define``, ``machine-start`` and
``hypervisor`` are the codes.
Calls block and may be made from any thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from socket import socket
from typing import Protocol

from notfallserver.server.vm.spec import Accelerator, VmSpec


class MachineState(StrEnum):
    ABSENT = "absent"  # not defined (any more)
    OFF = "off"
    RUNNING = "running"
    PAUSED = "paused"  # by us, or by QEMU because the pool is full or broken
    ENDING = "ending"  # the guest shuts down
    CRASHED = "crashed"


LIVE = frozenset(
    {MachineState.RUNNING, MachineState.PAUSED, MachineState.ENDING, MachineState.CRASHED}
)
"""States in which a QEMU process exists and holds the disks."""


@dataclass(frozen=True)
class HypervisorInfo:
    """What this host can run; memory in bytes."""

    libvirt: str
    qemu: str
    accelerators: tuple[Accelerator, ...]
    cpus: int
    memory: int


class Hypervisor(Protocol):
    """Machines by name."""

    def define(self, spec: VmSpec) -> None:
        """Make the machine known, or replace what is known under its name; does not start it."""

    def start(self, name: str, paused: bool = False) -> None:
        """Start a defined machine; returns when the guest's first instruction has run.

        ``paused``: the machine is there with all its devices and stands still until it is resumed.
        """

    def run_transient(self, spec: VmSpec) -> None:
        """Start a machine that is forgotten when it ends."""

    def state(self, name: str) -> MachineState: ...

    def fell_over(self, name: str) -> bool:
        """Off, and neither its guest nor anybody here switched it off: the host lost power, say."""

    def held(self, name: str) -> bool:
        """Paused by QEMU, which found no space for what it writes; resumed, it tries again."""

    def ended_in_order(self, name: str) -> bool:
        """Off, and known to be so because its guest shut down: its filesystems are whole."""

    def wait_off(self, name: str, timeout: float) -> bool:
        """Wait until no QEMU process holds the disks; False when ``timeout`` s were not enough."""

    def shutdown(self, name: str) -> None:
        """Ask the guest to shut down (ACPI power button); returns at once."""

    def restart(self, name: str) -> None:
        """Ask the guest to shut down, and start it anew when it did; returns at once."""

    def kill(self, name: str) -> None:
        """Cut the power; what the guest had flushed is on the disks when this returns."""

    def pause(self, name: str) -> None:
        """Stop the CPUs; every write that the guest knows as completed is then in the files."""

    def resume(self, name: str) -> None: ...

    def reset(self, name: str) -> None:
        """Press the reset button."""

    def undefine(self, name: str) -> None:
        """Forget the machine with its NVRAM; cuts its power first. Disks stay."""

    def screenshot(self, name: str, path: Path) -> None:
        """Write what the screen shows as PNG; needs ``vnc`` in the spec."""

    def console(self, name: str) -> socket:
        """Screen, keyboard and mouse of a machine that runs: a stream of VNC's protocol (RFB), no
        password. Needs ``vnc`` in the spec; ends when the machine goes off. ``machine-off``
        where it is off already."""

    def info(self) -> HypervisorInfo: ...


@contextmanager
def standing_still(hypervisor: Hypervisor, name: str) -> Iterator[None]:
    """The machine does not run inside this block, and runs on after it if it ran before.

    It is resumed whatever happens inside: a failed capture must not stop a server at work.
    """
    running = hypervisor.state(name) is MachineState.RUNNING
    if running:
        hypervisor.pause(name)
    try:
        yield
    finally:
        if running:
            hypervisor.resume(name)
