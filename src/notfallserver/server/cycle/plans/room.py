"""What this server has for further stand-ins, and what the primaries' stand-ins would take."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from shutil import disk_usage

from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.plans.capacity import Capacity, Need, Room, fit_together
from notfallserver.server.cycle.standin import SPARE_MEMORY, cpu_limit, standin_memory
from notfallserver.server.cycle.state import WITH_STANDIN, State
from notfallserver.server.host.memory import free_memory
from notfallserver.server.records.primaries import Primary


@dataclass(frozen=True)
class Memory:
    """The host's, in bytes: all of it, and what programs can still have."""

    whole: int
    free: int


ReadMemory = Callable[[], Memory]


def read_memory() -> Memory:
    return Memory(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), free_memory())


def capacity_of_all(
    means: Means, read: ReadMemory, chosen: Collection[str] | None = None
) -> Capacity:
    """Whether the stand-ins of all that have none yet fit beside those that exist, in the plan's
    order; ``chosen``: only of these primaries."""
    places = means.catalogue.start_plan.all()
    most = {one.primary: one.memory_mib for one in places}
    rows = {one.uuid: one for one in means.catalogue.primaries.all()}
    needs = {uuid: _need(means, row, most.get(uuid, 0)) for uuid, row in rows.items()}
    existing = [needs[uuid] for uuid, row in rows.items() if row.state in WITH_STANDIN]
    ending = [needs[uuid] for uuid, row in rows.items() if row.state == State.REHEARSING]
    waiting = [
        need
        for uuid in (one.primary for one in places)
        if uuid in rows and rows[uuid].state not in WITH_STANDIN and rows[uuid].newest_version
        if (chosen is None or uuid in chosen) and (need := needs[uuid]) is not None
    ]
    taken = [one for one in existing if one is not None]
    freed = sum(one.memory for one in ending if one is not None)
    return fit_together(waiting, _room(means, taken, freed, read()))


def _room(means: Means, taken: list[Need], freed: int, memory: Memory) -> Room:
    """A stand-in that was just started has not touched its memory yet, so what is free is at most
    what those that exist leave over. A rehearsal ends when a stand-in starts (``freed``)."""
    left = memory.whole - SPARE_MEMORY - sum(one.memory for one in taken)
    free, _ = means.pool.free()
    image = means.place.image
    return Room(
        memory=max(0, min(left, memory.free + freed)),
        disk=min(free, disk_usage(image.parent).free) if image else free,
        cpus=cpu_limit(),
        cpus_taken=sum(one.cpus for one in taken),
        standins=len(taken),
    )


def _need(means: Means, row: Primary, most_mib: int) -> Need | None:
    """None where nothing is known of its machine."""
    if row.machine is None:
        return None
    return Need(
        primary=row.uuid,
        name=row.name,
        memory=standin_memory(means.settings, row.machine, most_mib),
        cpus=max(1, min(row.machine.cpus, cpu_limit())),
        disk=0 if means.place.reflink else _used(means, row),
    )


def _used(means: Means, row: Primary) -> int:
    """Without shared blocks the disks are copied."""
    best = means.pool.primary(row.uuid).best() if row.newest_version else None
    return best.bytes_used if best else 0
