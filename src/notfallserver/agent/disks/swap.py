"""Which devices are swap space: its content past the header is of no use to anybody else."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Set

from notfallserver.agent.disks.base import Volume
from notfallserver.agent.disks.direct import DirectDisk
from notfallserver.wire.blocks import BLOCK

_SWAPS = Path("/proc/swaps")
_BLOCK = Path("/sys/class/block")
_MAGIC = (b"SWAPSPACE2", b"SWAP-SPACE")
_PAGES = (4096, 16384, 65536)
_MD_MAGIC, _MD_PLACE = b"\xfc\x4e\x2b\xa9", 4096


def active_swaps(table: Path = _SWAPS) -> Set[int]:
    """The devices that the kernel swaps to; files are not among them."""
    found: Set[int] = set()
    with contextlib.suppress(OSError):
        for line in table.read_text().splitlines()[1:]:
            name, kind = line.split()[:2]
            if kind == "partition":
                plain = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), name)
                with contextlib.suppress(OSError):
                    found.add(Path(plain).stat().st_rdev)
    return found


def is_swap(disk: DirectDisk, volume: Volume, block: Path = _BLOCK) -> bool:
    """Whether a volume that nothing uses has been made for swapping.

    The header alone is no proof: md and others leave one in place that was there before them.
    """
    if volume.size <= BLOCK or any((block / volume.name / "holders").glob("*")):
        return False
    head = disk.read(volume.start, BLOCK)
    if head[_MD_PLACE : _MD_PLACE + 4] == _MD_MAGIC:
        return False
    return any(head[page - 10 : page] in _MAGIC for page in _PAGES)
