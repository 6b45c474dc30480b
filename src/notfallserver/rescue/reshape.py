"""The appliance's part of a reshaped image: smaller filesystems, and one table for several disks.

The sources are writable clones of a version; there filesystems are made smaller in place. XFS can't
be: it is copied into a new one on the target. The target gets its table here. Everything else (boot
code, partitions that keep their content or were made smaller) the server puts into the target by
sharing blocks: the answer says what lies where.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

from notfallserver.guest.apply import replace_text
from notfallserver.guest.facts import Volume
from notfallserver.guest.larger import parts_of
from notfallserver.guest.layout import SHRINKABLE, SWAP, Part, Place, Room, lay_out
from notfallserver.guest.mounts import mounted_system
from notfallserver.guest.names import DeviceNames
from notfallserver.guest.paths import inside, read_text
from notfallserver.guest.resize import copy_xfs, least_size, shrink
from notfallserver.guest.shell import run
from notfallserver.guest.table import new_table, read_table, write_table
from notfallserver.guest.volumes import list_volumes, opened_volumes, table_of
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine, read_machine

Found = Dict[Tuple[int, int], Volume]


def measure(disks: Sequence[str]) -> List[Dict[str, int]]:
    """How small each filesystem can get; what can't is left out."""
    told = []
    for volume in list_volumes(disks):
        if volume.filesystem not in SHRINKABLE:
            continue
        try:
            least = least_size(volume)
        except NotfallError:
            continue  # damaged: it is taken as it is
        if least:
            told.append({"disk": volume.disk, "partition": volume.partition, "least": least})
    return told


def reread_table(disk: str) -> None:
    """Have the kernel take over a table; nobody has the disk in use."""
    run(["blockdev", "--rereadpt", disk], ok=range(256))


def reshape(
    job: Mapping[str, Any],
    disks: Sequence[str],
    reread: Callable[[str], None] = reread_table,
) -> List[Dict[str, Any]]:
    """``job``: how many of ``disks`` are sources, and which of them each target is made of."""
    count = int(job["sources"])
    sources, targets = disks[:count], disks[count:]
    orders = [[int(one) for one in order] for order in job["targets"]]
    if len(orders) != len(targets) or any(not 0 <= at < count for one in orders for at in one):
        raise NotfallError("bad-job", "The appliance's job does not fit its disks.", "", status=500)
    if any(len(one) > 1 for one in orders):
        _name_by_uuid(sources, read_machine(job.get("machine")))
    found = {(one.disk, one.partition): one for one in list_volumes(sources)}
    return [_reshape(sources, found, one, target, reread) for one, target in zip(orders, targets)]


def _reshape(
    sources: Sequence[str],
    found: Found,
    order: Sequence[int],
    target: str,
    reread: Callable[[str], None],
) -> Dict[str, Any]:
    base = order[0]
    label = table_of(sources[base])
    name = Path(target).name
    sector = int((Path("/sys/class/block") / name / "queue/logical_block_size").read_text())
    size = int((Path("/sys/class/block") / name / "size").read_text()) * 512
    places = _places(sources, found, order, Room(label, size, sector))
    for one in places:
        if one.shrunk and one.part.filesystem != "xfs":
            shrink(found[one.part.disk, one.part.number], one.size)
    first = 0
    if label:
        tables = {at: read_table(sources[at]) for at in order if table_of(sources[at])}
        table = new_table(tables[base], tables, places)
        write_table(target, table)
        reread(target)
        first = min(one.start for one in table.slots)
    made = {one.partition: one for one in list_volumes([target])}
    for one in places:
        if one.shrunk and one.part.filesystem == "xfs":
            copy_xfs(found[one.part.disk, one.part.number], made[one.number])
    return {"label": label, "first": first, "places": [_told(one) for one in places]}


def _places(
    sources: Sequence[str], found: Found, order: Sequence[int], room: Room
) -> Tuple[Place, ...]:
    parts = {at: parts_of(sources[at], at) for at in order}

    def laid_out(known: Mapping[int, Sequence[Part]]) -> Tuple[Place, ...]:
        return lay_out(known[order[0]], [known[at] for at in order[1:]], room)

    try:
        return laid_out(parts)
    except NotfallError as error:
        if error.code != "contents-do-not-fit":
            raise
    least = {
        key: least_size(volume) if volume.filesystem in SHRINKABLE else 0
        for key, volume in found.items()
        if key[0] in order
    }
    return laid_out(
        {
            at: [replace(one, least=least.get((at, one.number), 0)) for one in known]
            for at, known in parts.items()
        }
    )


def _told(place: Place) -> Dict[str, Any]:
    how = "kept"
    if place.part.filesystem == SWAP:
        how = "swap"  # of which only the header counts
    elif place.shrunk and place.part.filesystem == "xfs":
        how = "copied"
    return {
        "disk": place.part.disk,
        "from": place.part.start,
        "to": place.start,
        "size": place.size,
        "how": how,
    }


def named_by_uuid(text: str, column: int, names: DeviceNames) -> str:
    """A table of mounts (or crypttab) in which nothing depends on a disk or its partition table."""
    lines = []
    for line in text.splitlines():
        words = line.split()
        spec = words[column] if len(words) > column and not words[0].startswith("#") else ""
        if "partuuid" in spec.lower() or names.is_hardware_name(spec):
            volume = names.find(spec)
            if volume is not None and volume.uuid:
                line = line.replace(spec, f"UUID={volume.uuid}", 1)
        lines.append(line)
    return "\n".join(lines) + "\n"


def _name_by_uuid(sources: Sequence[str], original: Machine) -> None:
    """A partition that goes to another disk has another name there, and may have another number."""
    with opened_volumes(sources) as volumes:
        try:
            with mounted_system(volumes, original) as system:
                names = DeviceNames(volumes, original)
                # a locked system has neither; what it names can't be changed here
                for path, column in (("/etc/fstab", 0), ("/etc/crypttab", 1)):
                    text = read_text(system.root, path)
                    told = named_by_uuid(text, column, names)
                    if text and told != text:
                        replace_text(inside(system.root, path), told)
        except NotfallError as error:
            if error.code != "no-system":
                raise
