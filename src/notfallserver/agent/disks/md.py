"""md arrays as the kernel's sysfs describes them: what a mirror (RAID 1) keeps where.

Of other levels nothing is told: their bytes are used, whatever a filesystem says.
"""

from __future__ import annotations

from pathlib import Path
from typing import List

from notfallserver.agent.disks.base import device_at
from notfallserver.agent.disks.layers import Segment

_SECTOR = 512


def segments_of(node: Path) -> List[Segment]:
    """Of the array at ``node`` (its directory of a block device in sysfs): one per sound member.

    A member that is being filled, or has failed, holds something else and gives no segment.
    """
    array = node / "md"
    try:
        if _text(array / "level") != "raid1" or is_reshaping(node):
            return []
        size = int(_text(node / "size")) * _SECTOR
    except (OSError, ValueError):
        return []
    found: List[Segment] = []
    for member in sorted(array.glob("dev-*")):
        try:
            states = _text(member / "state").split(",")
            if "in_sync" not in states or "faulty" in states or "journal" in states:
                continue
            device = device_at(member / "block")
            offset = int(_text(member / "offset")) * _SECTOR
        except (OSError, ValueError):
            continue
        found.append(Segment(0, size, device, offset))
    return found


def is_reshaping(node: Path) -> bool:
    """Whether data is being moved to another layout."""
    try:
        return _text(node / "md" / "reshape_position") != "none"
    except OSError:
        return False


def has_journal(node: Path) -> bool:
    """Whether writes wait in a journal of the array and reach their place later."""
    try:
        return _text(node / "md" / "consistency_policy") == "journal"
    except OSError:
        return False


def filled_until(block: Path = Path("/sys/class/block")) -> List[str]:
    """How far members are known to hold what they should, as their superblocks say it by now.

    An array goes on filling a member while filesystems stand still. What it wrote before this
    advances is a member's content at that time; so what is read while it doesn't change fits
    together with the superblocks.
    """
    found = []
    for place in sorted([*block.glob("md*/md/resync_start"), *block.glob("md*/md/dev-*")]):
        try:
            told = place if place.name == "resync_start" else place / "recovery_start"
            found.append(f"{place.parent.parent.name} {place.name} {_text(told)}")
        except OSError:
            continue
    return found


def _text(path: Path) -> str:
    return path.read_text().strip()
