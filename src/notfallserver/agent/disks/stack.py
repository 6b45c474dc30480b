"""From any block device down to the protected disks, through partitions, device-mapper and md.

Read from the kernel at the moment of asking. Opens only files of sysfs, which no freeze touches.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, Iterable, List, Tuple

from notfallserver.agent.disks import dm, md
from notfallserver.agent.disks.base import device_at
from notfallserver.agent.disks.layers import Segment, compose

_SYS = Path("/sys/dev/block")
_SECTOR = 512
_DEPTH = 16


class Stack:
    """``disks`` are the device numbers of the protected disks."""

    def __init__(self, disks: Iterable[int], mapper: dm.Mapper, sys: Path = _SYS) -> None:
        self._disks = frozenset(disks)
        self._mapper = mapper
        self._sys = sys

    def segments(self, device: int) -> Tuple[Segment, ...]:
        """Where the device lies on protected disks, as far as that is understood."""
        return tuple(self._segments(device, 0))

    def size(self, device: int) -> int:
        """Bytes; 0 for what is no block device."""
        try:
            return int((self._node(device) / "size").read_text()) * _SECTOR
        except (OSError, ValueError):
            return 0

    def _node(self, device: int) -> Path:
        return self._sys / f"{os.major(device)}:{os.minor(device)}"

    def _segments(self, device: int, depth: int) -> List[Segment]:
        if device in self._disks:
            return [Segment(0, self.size(device), device, 0)]
        if depth > _DEPTH:
            return []
        upper = self._below(device)
        lower: Dict[int, List[Segment]] = {
            one: self._segments(one, depth + 1) for one in {part.below for part in upper}
        }
        return compose(upper, lower)

    def _below(self, device: int) -> List[Segment]:
        node = self._node(device)
        if (node / "partition").exists():
            try:
                start = int((node / "start").read_text()) * _SECTOR
                whole = device_at(node.resolve().parent)
            except (OSError, ValueError):
                return []
            return [Segment(0, self.size(device), whole, start)]
        if (node / "dm").exists():
            return dm.segments_of(self._mapper.table(device))
        if (node / "md").exists():
            return md.segments_of(node)
        return []
