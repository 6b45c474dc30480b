"""Which blocks of the protected disks are in use.

Free is only what a mounted filesystem itself calls free (ext4, XFS, Btrfs, FAT) and swap space
behind its header. Everything else is used: partition tables, gaps, boot areas, unknown or unmounted
content.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence

from notfallserver.agent.disks import btrfs, fat, fsmap
from notfallserver.agent.disks.base import Protected, Volume
from notfallserver.agent.disks.direct import DirectDisk
from notfallserver.agent.disks.mounts import Mount, open_mount
from notfallserver.agent.disks.runs import Extent, free_runs, subtract, whole
from notfallserver.wire.blocks import BLOCK, Run

_SWAP_MAGIC = (b"SWAPSPACE2", b"SWAP-SPACE")
_PAGES = (4096, 16384, 65536)


@dataclass(frozen=True)
class Source:
    """Who tells the free space of a volume: an open mount point, the FAT, or the swap header."""

    disk: int
    volume: Volume
    kind: str  # "mounted", "btrfs", "fat" or "swap"
    handle: int = -1


FreeSpace = List[List[Extent]]
"""Free extents in bytes, per disk."""


class Census:
    """Counts used blocks; made before a freeze, because it opens files."""

    def __init__(self, disks: Sequence[DirectDisk], mounts: Sequence[Mount]) -> None:
        self._disks = list(disks)
        self._sources: List[Source] = []
        by_device: Dict[int, List[Mount]] = {}
        for one in mounts:
            by_device.setdefault(one.device, []).append(one)
        for index, disk in enumerate(disks):
            for volume in disk.disk.volumes:
                source = self._source(index, volume, by_device.get(volume.device, []))
                if source is not None:
                    self._sources.append(source)

    def _source(self, index: int, volume: Volume, mounts: List[Mount]) -> Optional[Source]:
        if not mounts:
            return self._swap(index, volume)
        if mounts[0].kind == "vfat":
            return Source(index, volume, "fat")
        for one in mounts:
            handle = open_mount(one)
            if handle >= 0:
                kind = "btrfs" if one.kind == "btrfs" else "mounted"
                return Source(index, volume, kind, handle)
        return None

    def _swap(self, index: int, volume: Volume) -> Optional[Source]:
        if volume.size <= BLOCK:
            return None
        head = self._disks[index].read(volume.start, BLOCK)
        if any(head[page - 10 : page] in _SWAP_MAGIC for page in _PAGES):
            return Source(index, volume, "swap")
        return None

    def free_space(self) -> FreeSpace:
        """Ask now; works while everything is frozen."""
        found: FreeSpace = [[] for _ in self._disks]
        for one in self._sources:
            start = one.volume.start
            extents = self._ask(one) or []
            found[one.disk] += [(start + at, length) for at, length in extents]
        return found

    def _ask(self, source: Source) -> Optional[List[Extent]]:
        volume = source.volume
        if source.kind == "mounted":
            return fsmap.free_extents(source.handle, volume.device)
        if source.kind == "btrfs":
            return btrfs.free_extents(source.handle, volume.size)
        if source.kind == "swap":
            return [(BLOCK, volume.size - BLOCK)]
        disk = self._disks[source.disk]
        return fat.free_extents(lambda at, size: disk.read(volume.start + at, size), volume.size)

    def close(self) -> None:
        for one in self._sources:
            if one.handle >= 0:
                os.close(one.handle)
        self._sources.clear()


def used_runs(disks: Sequence[Protected], free: FreeSpace) -> List[List[Run]]:
    """Used blocks of each disk."""
    return [
        subtract(whole(disk.blocks), free_runs(disk.size, extents))
        for disk, extents in zip(disks, free)
    ]
