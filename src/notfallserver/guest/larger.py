"""The last filesystem of a disk that is larger than the original's, grown to the disk's end.

Every step may be repeated: what is grown already stays as it is.
"""

from __future__ import annotations

from typing import Callable, List, Optional, Sequence

from notfallserver.guest.facts import Volume
from notfallserver.guest.layout import SWAP, Part, Place, Room, grow, last_with_data
from notfallserver.guest.mounts import mounted_system
from notfallserver.guest.resize import extend
from notfallserver.guest.shell import run
from notfallserver.guest.table import new_table, read_table, write_table
from notfallserver.guest.volumes import list_volumes, lvm_config, opened_volumes, table_of
from notfallserver.wire.facts import Machine

HEADER = 65536
"""What of swap moves with it: the first page holds its identity."""


def grow_disks(
    disks: Sequence[str],
    sizes: Sequence[int],
    original: Machine,
    reread: Callable[[str], None],
    tell: Callable[[str], None] = lambda change: None,
) -> List[str]:
    """Grow on each disk what can grow; ``reread`` has the kernel read a table again."""
    changes: List[str] = []
    physical = False
    for at, (disk, size) in enumerate(zip(disks, sizes)):
        changes += _grow_table(disk, size, at, reread, tell)
        last = _last_volume(disk, at)
        if last is None:
            continue
        if last.filesystem == "LVM2_member":
            physical = True
            continue
        tell(f"growing {last.device}")
        extend(last)
    if physical:
        changes += _grow_lvm(disks, original, tell)
    return changes


def parts_of(disk: str, at: int = 0) -> List[Part]:
    """What lies on a disk; ``at`` is its number."""
    volumes = {one.partition: one for one in list_volumes([disk])}
    if not table_of(disk):
        whole = volumes.get(0)
        return [Part(at, 0, 0, whole.size, whole.filesystem)] if whole is not None else []
    slots = read_table(disk).slots
    kinds = {number: one.filesystem for number, one in volumes.items()}
    return [Part(at, s.number, s.start, s.size, kinds.get(s.number, ""), s.kind) for s in slots]


def _last_volume(disk: str, at: int) -> Optional[Volume]:
    last = last_with_data(parts_of(disk, at))
    volumes = list_volumes([disk])
    return next((one for one in volumes if last and one.partition == last.number), None)


def _grow_table(
    disk: str,
    size: int,
    at: int,
    reread: Callable[[str], None],
    tell: Callable[[str], None],
) -> List[str]:
    label = table_of(disk)
    if not label:
        return []
    table = read_table(disk)
    places = grow(parts_of(disk, at), Room(label, size, table.sector))
    if not places:
        return []
    tell(f"growing the last partition of {disk}")
    for place in places:
        _move_swap(disk, place)
    write_table(disk, new_table(table, {}, places))
    reread(disk)
    return [
        f"{disk}: partition {one.number} grown from {one.part.size >> 20} to {one.size >> 20} MiB"
        for one in places
        if one.grown
    ]


def _move_swap(disk: str, place: Place) -> None:
    """Before the table tells of it: until then the old place is the one that counts."""
    if place.part.filesystem != SWAP or place.start == place.part.start:
        return
    with open(disk, "r+b", buffering=0) as raw:
        raw.seek(place.part.start)
        header = raw.read(min(HEADER, place.size))
        raw.seek(place.start)
        raw.write(header)


def _grow_lvm(disks: Sequence[str], original: Machine, tell: Callable[[str], None]) -> List[str]:
    """Physical volumes get their new room, and the volume of the system takes it."""
    with opened_volumes(disks) as volumes:
        config = lvm_config(volumes)
        for one in volumes:
            if one.filesystem == "LVM2_member":
                run(["lvm", "pvresize", "--config", config, one.device])
        with mounted_system(volumes, original, writable=False) as system:
            root = system.mounts["/"]
        if root.disk >= 0:
            return ["LVM: the new room is free in the volume group"]
        tell(f"growing {root.device}")
        # nothing is free where it was grown before
        run(
            ["lvm", "lvextend", "--config", config, "-l", "+100%FREE", root.device],
            ok=range(256),
        )
        extend(root)
    return [f"{root.device} grown into the new room"]
