"""What of a Windows machine cannot be copied is recognised before the first byte.

Volumes of dynamic disks and Storage Spaces lie scattered over disks in ways that only Windows
knows; an image of their disks could be started, but not adapted, checked or recovered to other
disks. A clustered volume belongs to several machines at once.
"""

from __future__ import annotations

from typing import Iterator, List, Sequence, Tuple

from notfallserver.agent.windows.answers import SPACES
from notfallserver.agent.windows.survey import SeenDisk, SeenVolume
from notfallserver.wire.errors import NotfallError

_DYNAMIC = {
    "0x42",
    "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3",
    "af9b60a0-1431-4f62-bc68-3311714a69ad",
}
"""MBR type; LDM metadata and data of a GPT."""
_POOL = "e75caf8f-f680-4cee-afa3-b001e56efc2d"
_CLUSTERED = "CSVFS"
_CANNOT = "{} cannot be copied at one point in time."
_TO_BASIC = (
    "Move the data to a volume on a basic disk; Windows makes a dynamic disk basic again only when "
    "it is empty. The system disk: convert it with a partitioning program, after a backup."
)
_TO_PLAIN = "Move the data to a volume on a plain disk, or make mirrors by a RAID controller."


def check_fitness(disks: Sequence[SeenDisk], volumes: Sequence[SeenVolume]) -> None:
    """Raise what stands in the way, all of it in one error."""
    found = [*_of_disks(disks), *_of_volumes(disks, volumes)]
    if found:
        raise NotfallError(
            "storage-not-supported",
            " ".join(cause for cause, _ in found),
            " ".join(dict.fromkeys(remedy for _, remedy in found)),
        )


def _of_disks(disks: Sequence[SeenDisk]) -> Iterator[Tuple[str, str]]:
    for disk in disks:
        kinds = {one.kind for one in disk.layout.slots}
        if kinds & _DYNAMIC:
            yield _CANNOT.format(f"The dynamic disk {disk.number}"), _TO_BASIC
        if _POOL in kinds:
            yield _CANNOT.format(f"Disk {disk.number} of a storage pool"), _TO_PLAIN
        if disk.descriptor.bus == SPACES:
            yield _CANNOT.format(f"The storage space on disk {disk.number}"), _TO_PLAIN


def _of_volumes(
    disks: Sequence[SeenDisk], volumes: Sequence[SeenVolume]
) -> Iterator[Tuple[str, str]]:
    protected = {one.number for one in disks}
    dynamic = {one.number for one in disks if {s.kind for s in one.layout.slots} & _DYNAMIC}
    for volume in volumes:
        below: List[int] = [one.disk for one in volume.extents]
        name = volume.places[0] if volume.places else volume.name
        if not protected & set(below):
            continue
        if volume.label.filesystem == _CLUSTERED:
            yield (
                _CANNOT.format(f"The clustered volume {name}"),
                "Protect the virtual machines on it, each by an agent of its own.",
            )
        elif set(below) - protected:
            yield (
                f"{name} lies also on a disk that is not protected.",
                "Protect all its disks: name them in agent.json.",
            )
        elif len(below) > 1 and not dynamic & set(below):
            yield _CANNOT.format(f"The volume {name}, which is in several pieces,"), _TO_BASIC
