"""Which stand-ins fit on this server together. Pure.

Memory decides: a host that gives away more than it has kills machines, and nobody chooses which.
Where blocks can't be shared, space for the copies of the disks decides as well. Processors can be
shared; that they are scarce is only told, as is little space for what stand-ins write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OVERHEAD = 128 << 20
"""Bytes that a machine takes beside its own memory."""
WRITES = 2 << 30
"""Bytes that should be free in the pool for what one stand-in writes."""


@dataclass(frozen=True)
class Need:
    """What the stand-in of a primary takes: bytes of memory, processors, and bytes of the pool
    before it can start (nothing where blocks are shared)."""

    primary: str
    name: str
    memory: int
    cpus: int
    disk: int = 0


@dataclass(frozen=True)
class Room:
    """What is left for further stand-ins: bytes of memory and of the pool. The host has ``cpus``
    processors, and the ``standins`` stand-ins that exist have ``cpus_taken``."""

    memory: int
    disk: int
    cpus: int
    cpus_taken: int = 0
    standins: int = 0


@dataclass(frozen=True)
class Capacity:
    """``missing_memory`` and ``missing_disk``: bytes that ``rest`` would need on top.

    ``cpus_wanted``: of all that would be at work together; ``free_disk``: what is left of the pool
    then.
    """

    fits: tuple[Need, ...]
    rest: tuple[Need, ...]
    missing_memory: int
    missing_disk: int
    cpus_wanted: int
    cpus: int
    free_disk: int

    @property
    def crowded(self) -> bool:
        """They share processors."""
        return self.cpus_wanted > self.cpus

    @property
    def scarce(self) -> bool:
        """Little space is left for what they write."""
        return bool(self.fits) and self.free_disk < WRITES * len(self.fits)


def fit_together(needs: Sequence[Need], room: Room) -> Capacity:
    """In their order: one that doesn't fit is passed over, so that smaller ones still can.

    A stand-in that would be alone always fits: its memory is what the host can give away.
    """
    fits: list[Need] = []
    rest: list[Need] = []
    memory, disk = room.memory, room.disk
    for one in needs:
        takes = one.memory + OVERHEAD
        alone = not fits and not room.standins
        if (takes <= memory or alone) and one.disk <= disk:
            fits.append(one)
            memory, disk = max(0, memory - takes), disk - one.disk
        else:
            rest.append(one)
    return Capacity(
        fits=tuple(fits),
        rest=tuple(rest),
        missing_memory=max(0, sum(one.memory + OVERHEAD for one in rest) - memory) if rest else 0,
        missing_disk=max(0, sum(one.disk for one in rest) - disk) if rest else 0,
        cpus_wanted=room.cpus_taken + sum(one.cpus for one in fits),
        cpus=room.cpus,
        free_disk=disk,
    )
