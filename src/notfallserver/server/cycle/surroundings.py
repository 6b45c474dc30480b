"""What an emergency server stands on: network, hypervisor, pool, rescue medium."""

from __future__ import annotations

from dataclasses import dataclass

from notfallserver.server.host.network import Link, Manager
from notfallserver.server.vm.hypervisor import HypervisorInfo
from notfallserver.server.vm.spec import Accelerator


@dataclass(frozen=True)
class Surroundings:
    """Sizes in bytes. ``room`` is what can still be written to the pool: less than its filesystem
    says where that is an image file on a smaller disk (``image``, else empty).

    ``answering``: the gateways and witnesses that were asked and answered; ``hypervisor`` is None
    where libvirt doesn't answer.
    """

    pool: str
    image: str
    size: int
    room: int
    reflink: bool
    bridge: str
    links: tuple[Link, ...]
    manager: Manager
    gateways: tuple[str, ...]
    witnesses: tuple[str, ...]
    answering: tuple[str, ...]
    hypervisor: HypervisorInfo | None
    accelerator: Accelerator
    cpus: int
    memory: int
    medium: bool

    @property
    def bridged(self) -> bool:
        """The bridge is there."""
        return any(one.name == self.bridge and one.kind == "bridge" for one in self.links)

    @property
    def accelerated(self) -> bool:
        """The hypervisor can what the settings want of it."""
        return self.hypervisor is not None and self.accelerator in self.hypervisor.accelerators
