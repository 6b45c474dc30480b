"""Space of the protected disks that LVM has not given to any logical volume.

It counts as free only with proof: the kernel works with the volume group, the metadata is on the
physical volume itself, and no other volume of the group has newer metadata.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Set, Tuple

from notfallserver.agent.disks.base import Protected, device_at
from notfallserver.agent.disks.direct import DirectDisk
from notfallserver.agent.disks.layers import Segment
from notfallserver.agent.disks.lvm import PhysicalVolume, Read, read_volume
from notfallserver.agent.disks.runs import Extent
from notfallserver.agent.disks.stack import Stack
from notfallserver.wire.errors import NotfallError

_BLOCK = Path("/sys/class/block")
_LVM = "LVM-"
"""How the kernel's UUID of a logical volume begins; the id of its group follows."""


@dataclass(frozen=True)
class _Candidate:
    """A device that is a physical volume; ``read`` reads it past the page cache."""

    device: int
    read: Read
    segments: Tuple[Segment, ...]


class VolumeGroups:
    """Made before a freeze, because it opens devices."""

    def __init__(self, disks: Sequence[DirectDisk], stack: Stack, block: Path = _BLOCK) -> None:
        self._stack = stack
        self._block = block
        self._opened = ExitStack()
        self._candidates: List[_Candidate] = []
        if not self._active():
            return
        for device, read in [*_plain(disks), *self._layered(disks)]:
            segments = stack.segments(device)
            if segments and read_volume(read) is not None:
                self._candidates.append(_Candidate(device, read, segments))

    def _active(self) -> Set[str]:
        """Ids of the volume groups that the kernel works with."""
        return {uuid[4:36] for _, uuid in self._logical()}

    def _logical(self) -> Iterator[Tuple[Path, str]]:
        for node in sorted(self._block.glob("dm-*")):
            try:
                uuid = (node / "dm" / "uuid").read_text().strip()
            except OSError:
                continue
            if uuid.startswith(_LVM):
                yield node, uuid

    def _layered(self, disks: Sequence[DirectDisk]) -> Iterator[Tuple[int, Read]]:
        """Arrays and encrypted volumes below logical volumes."""
        plain = {device for device, _ in _plain(disks)}
        logical = {node.name for node, _ in self._logical()}
        below = {one.name for name in logical for one in (self._block / name).glob("slaves/*")}
        for name in sorted(below - logical):
            try:
                device = device_at(self._block / name)
                if device in plain:
                    continue
                size = self._stack.size(device)
                one = DirectDisk(Protected(name, f"/dev/{name}", device, size, 512, False, ()))
            except (OSError, ValueError, NotfallError):
                continue
            self._opened.callback(one.close)
            yield device, one.read

    def unallocated(self) -> List[Tuple[int, Tuple[Segment, ...], Tuple[Extent, ...]]]:
        """Device, where it lies on the disks, and its unallocated extents in bytes, as of now."""
        active = self._active()
        told: List[Tuple[_Candidate, PhysicalVolume]] = []
        newest: Dict[str, int] = {}
        for one in self._candidates:
            volume = read_volume(one.read)
            if volume is not None and volume.group in active:
                told.append((one, volume))
                newest[volume.group] = max(newest.get(volume.group, 0), volume.sequence)
        return [
            (one.device, one.segments, volume.unallocated)
            for one, volume in told
            if volume.sequence == newest[volume.group]
        ]

    def close(self) -> None:
        self._opened.close()


def _plain(disks: Sequence[DirectDisk]) -> Iterator[Tuple[int, Read]]:
    for disk in disks:
        for volume in disk.disk.volumes:

            def read(
                at: int, size: int, disk: DirectDisk = disk, start: int = volume.start
            ) -> bytes:
                return disk.read(start + at, size)

            if volume.size >= 1 << 20:
                yield volume.device, read
