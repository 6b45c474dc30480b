"""Which mounted filesystems on the protected disks can tell which files did not change."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Sequence, Set, Tuple

from notfallserver.agent.disks.direct import DirectDisk
from notfallserver.agent.disks.mounts import Mount
from notfallserver.agent.disks.runs import Extent
from notfallserver.agent.inodes import ext4, xfs
from notfallserver.agent.inodes.base import Inodes, NotUnderstood, Read, understood

_SWAPS = Path("/proc/swaps")
BOOT = (Path("/boot"),)
"""Where the boot loader has its files."""


@dataclass(frozen=True)
class Filesystem:
    """One of them; ``identity`` has UUID and place, ``device`` is as stat(2) tells it.

    ``on_disk`` gives the pieces of an extent as (number of the disk, extent of the disk).
    """

    identity: str
    device: int
    place: str
    inodes: Callable[[], Inodes]
    on_disk: Callable[[Extent], List[Tuple[int, Extent]]]


def find_filesystems(disks: Sequence[DirectDisk], mounts: Sequence[Mount]) -> List[Filesystem]:
    """Writable ext4 and XFS directly on a disk or partition, as far as they are understood."""
    found = []
    writable = {one.device: one for one in mounts if one.writable and one.kind in ("ext4", "xfs")}
    for index, disk in enumerate(disks):
        for volume in disk.disk.volumes:
            mount = writable.get(volume.device)
            if mount is None:
                continue
            try:
                found.append(_filesystem(mount, _reader(disk, volume.start), index, volume.start))
            except NotUnderstood:
                continue
    return found


def _reader(disk: DirectDisk, start: int) -> Read:
    return lambda at, length: disk.read(start + at, length)


def _filesystem(mount: Mount, read: Read, index: int, start: int) -> Filesystem:
    def on_disk(extent: Extent) -> List[Tuple[int, Extent]]:
        return [(index, (start + extent[0], extent[1]))]

    if mount.kind == "ext4":
        four = ext4.read_super(read)
        uuid, inodes = four.uuid, lambda: ext4.inodes(read, four)
    else:
        told = xfs.read_super(read)
        uuid, inodes = told.uuid, lambda: xfs.inodes(read, told)
    identity = f"{index}:{start}:{uuid.hex()}"
    return Filesystem(identity, mount.device, mount.place, understood(inodes), on_disk)


def written_past_them() -> Set[Tuple[int, int]]:
    """Device and inode of each file that is written without its filesystem: active swap files by
    the kernel, GRUB's environment by the boot loader (``recordfail``, ``savedefault``)."""
    lines = _SWAPS.read_text().splitlines()[1:]
    paths = [Path(line.split()[0].encode().decode("unicode_escape")) for line in lines]
    paths += [path for place in BOOT for path in place.rglob("grubenv")]
    found = set()
    for path in paths:
        with suppress(OSError):
            status = path.stat()
            found.add((status.st_dev, status.st_ino))
    return found
