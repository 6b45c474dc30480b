"""Which blocks of the protected disks are in use.

Free is only what a mounted filesystem itself calls free (ext4, XFS, Btrfs, FAT), swap space behind
its header, and what LVM has not given to any volume; told through partitions, LVM, LUKS and md
mirrors. Everything else is used: partition tables, gaps, boot areas, unknown or unmounted content.
Below an encrypted filesystem free blocks become holes, too: they decrypt to noise, in free space.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Dict, Iterator, List, Optional, Sequence, Set, Tuple

from notfallserver.agent.disks import btrfs, fat, fsmap
from notfallserver.agent.disks.base import Protected, Volume
from notfallserver.agent.disks.direct import DirectDisk
from notfallserver.agent.disks.dm import Mapper
from notfallserver.agent.disks.layers import Segment, project
from notfallserver.agent.disks.lvm_space import VolumeGroups
from notfallserver.agent.disks.mounts import Mount, open_mount
from notfallserver.agent.disks.runs import Extent, free_runs, subtract, whole
from notfallserver.agent.disks.stack import Stack
from notfallserver.agent.disks.swap import active_swaps, is_swap
from notfallserver.wire.blocks import BLOCK, Run

FreeSpace = List[List[Extent]]
"""Free extents in bytes, per disk."""


@dataclass(frozen=True)
class Source:
    """Who tells the free space of a device: an open mount point, the FAT, or nobody (swap)."""

    kind: str  # "mounted", "btrfs", "fat" or "swap"
    device: int
    size: int
    segments: Tuple[Segment, ...]  # where it lies on the protected disks
    handle: int = -1


class Census:
    """Counts used blocks; made before a freeze, because it opens files."""

    def __init__(self, disks: Sequence[DirectDisk], mounts: Sequence[Mount]) -> None:
        self._disks = {one.disk.device: one for one in disks}
        self._mapper = Mapper()
        self._stack = Stack(self._disks, self._mapper)
        self._sources: List[Source] = []
        by_device: Dict[int, List[Mount]] = {}
        for one in mounts:
            by_device.setdefault(one.device, []).append(one)
        for device, group in by_device.items():
            self._add(self._filesystem(device, group))
        for device in self._swaps() - set(by_device):
            self._add(self._source("swap", device))
        self._groups = VolumeGroups(disks, self._stack)

    def _add(self, source: Optional[Source]) -> None:
        if source is not None:
            self._sources.append(source)

    def _source(self, kind: str, device: int) -> Optional[Source]:
        segments = self._stack.segments(device)
        if not segments:
            return None
        return Source(kind, device, self._stack.size(device), segments)

    def _filesystem(self, device: int, mounts: List[Mount]) -> Optional[Source]:
        if mounts[0].kind == "vfat":
            # Its table is read from the disk, so nothing may lie between them.
            plain = any(device == volume.device for _, volume in self._volumes())
            return self._source("fat", device) if plain else None
        source = self._source("btrfs" if mounts[0].kind == "btrfs" else "mounted", device)
        if source is None:
            return None
        for one in mounts:
            handle = open_mount(one)
            if handle >= 0:
                return replace(source, handle=handle)
        return None

    def _volumes(self) -> Iterator[Tuple[DirectDisk, Volume]]:
        for disk in self._disks.values():
            for volume in disk.disk.volumes:
                yield disk, volume

    def _swaps(self) -> Set[int]:
        return active_swaps() | {
            volume.device for disk, volume in self._volumes() if is_swap(disk, volume)
        }

    def free_space(self) -> FreeSpace:
        """Ask now; works while everything is frozen."""
        found: Dict[int, List[Extent]] = {device: [] for device in self._disks}
        told = [(one.device, one.segments, self._ask(one) or []) for one in self._sources]
        told += [(one, places, list(free)) for one, places, free in self._groups.unallocated()]
        for device, segments, free in told:
            if self._stack.segments(device) != segments:
                continue  # it is being moved or resized
            for disk, extents in project(free, segments).items():
                found[disk] += extents
        return list(found.values())

    def _ask(self, source: Source) -> Optional[List[Extent]]:
        if source.kind == "mounted":
            return fsmap.free_extents(source.handle, source.device)
        if source.kind == "btrfs":
            return btrfs.free_extents(source.handle, source.size)
        if source.kind == "swap":
            return [(BLOCK, source.size - BLOCK)] if source.size > BLOCK else []
        lies = source.segments[0]
        disk = self._disks[lies.below]
        return fat.free_extents(lambda at, size: disk.read(lies.at + at, size), source.size)

    def close(self) -> None:
        for one in self._sources:
            if one.handle >= 0:
                os.close(one.handle)
        self._sources.clear()
        self._groups.close()
        self._mapper.close()


def used_runs(disks: Sequence[Protected], free: FreeSpace) -> List[List[Run]]:
    """Used blocks of each disk."""
    return [
        subtract(whole(disk.blocks), free_runs(disk.size, extents))
        for disk, extents in zip(disks, free)
    ]
