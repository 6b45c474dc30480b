"""Which disk of the last version a disk of today is. Pure.

Only speed depends on it: a disk that is matched wrongly or not at all is compared block by block
like every other and sent anew. Names and positions change when a disk is added or the machine
replaced; partitions and filesystems keep their UUIDs.
"""

from __future__ import annotations

from collections.abc import Sequence

from notfallserver.wire.facts import Disk


def match_disks(old: Sequence[Disk], new: Sequence[Disk]) -> list[int | None]:
    """For each disk in ``new`` the position of the same disk in ``old``, or None."""
    found: list[int | None] = [None] * len(new)
    left = set(range(len(old)))
    for likeness in (_shared_uuids, _same_serial, _same_place):
        for here in range(len(new)):
            if found[here] is not None or not left:
                continue
            best = max(left, key=lambda there: likeness(old, there, new, here))
            if likeness(old, best, new, here) > (0, False):
                found[here] = best
                left.remove(best)
    return found


def _shared_uuids(
    old: Sequence[Disk], there: int, new: Sequence[Disk], here: int
) -> tuple[int, bool]:
    """How many UUIDs they share; of equals the one in the same place."""
    shared = len(_uuids(old[there]) & _uuids(new[here]))
    return (shared, there == here) if shared else (0, False)


def _same_serial(
    old: Sequence[Disk], there: int, new: Sequence[Disk], here: int
) -> tuple[int, bool]:
    same = bool(new[here].serial) and old[there].serial == new[here].serial
    return (1, there == here) if same else (0, False)


def _same_place(
    old: Sequence[Disk], there: int, new: Sequence[Disk], here: int
) -> tuple[int, bool]:
    return (int(there == here), False)


def _uuids(disk: Disk) -> set[str]:
    return {uuid for one in disk.partitions for uuid in (one.uuid, one.part_uuid) if uuid}
