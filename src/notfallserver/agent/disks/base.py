"""What the agent knows of the disks it protects. Sizes and starts are in bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Tuple

from notfallserver.wire.blocks import block_count


@dataclass(frozen=True)
class Volume:
    """A partition, or (number 0) a whole disk seen as one volume."""

    name: str
    device: int  # as stat(2) tells it
    number: int
    start: int
    size: int


@dataclass(frozen=True)
class Protected:
    """One whole disk that is replicated."""

    name: str
    path: str
    device: int
    size: int
    sector: int
    queued: bool  # its driver has request queues
    volumes: Tuple[Volume, ...]
    sequence: int = 0  # grows when another disk or medium takes this name; 0 before Linux 5.15

    @property
    def blocks(self) -> int:
        return block_count(self.size)

    def boot_areas(self) -> Tuple[Tuple[int, int], ...]:
        """Blocks before the first partition (at most 1 MiB) and the end of the disk, as runs."""
        first = min((one.start for one in self.volumes if one.number), default=0)
        head = max(1, min(block_count(first), 16, self.blocks))
        if head >= self.blocks:
            return ((0, self.blocks),)
        return ((0, head), (self.blocks - 1, 1))


def kernel_device(device: int) -> int:
    """A device number as the kernel holds it (12 bits major, 20 bits minor)."""
    return os.major(device) << 20 | os.minor(device)


def encoded_device(device: int) -> int:
    """A device number as system calls pass it on (new_encode_dev)."""
    major, minor = os.major(device), os.minor(device)
    return (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12


def device_at(node: Path) -> int:
    """The number of the device whose directory in sysfs is ``node``."""
    major, minor = (node / "dev").read_text().split(":")
    return os.makedev(int(major), int(minor))
