"""Which subvolume of a Btrfs filesystem is the root of its system.

The filesystem's default one if it holds a system; else the one whose fstab names itself; else any
that holds a system, the shortest path first, because snapshots lie deeper.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, Mapping

from notfallserver.guest.paths import read_text
from notfallserver.guest.shell import run

SUBVOLUME_LIMIT = 2000


def root_options(place: Path) -> List[str]:
    """Mount options to try, given the top of the filesystem mounted at ``place``."""
    told = run(["btrfs", "subvolume", "list", str(place)], ok=range(256)).out
    systems: Dict[str, str] = {}
    for path in subvolume_paths(told)[:SUBVOLUME_LIMIT]:
        base = place / path
        if (base / "etc/fstab").is_file() and (base / "usr").is_dir():
            systems[path] = read_text(base, "/etc/fstab")
    return [f"subvol=/{path}" for path in in_order(systems)]


def subvolume_paths(told: str) -> List[str]:
    """From ``btrfs subvolume list``."""
    return re.findall(r"^ID \d+ .* path (?:<FS_TREE>/)?(.+)$", told, re.M)


def in_order(systems: Mapping[str, str]) -> List[str]:
    """``systems``: path of each subvolume that holds a system -> its fstab."""
    return sorted(
        systems, key=lambda path: (not _names(systems[path], path), path.count("/"), path)
    )


def _names(fstab: str, path: str) -> bool:
    for line in fstab.splitlines():
        parts = line.split()
        if len(parts) > 3 and not parts[0].startswith("#") and parts[1] == "/":
            found = re.search(r"(?:^|,)subvol=/?([^,]+)", parts[3])
            return found is not None and found.group(1) == path
    return False
