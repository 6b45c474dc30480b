"""What cannot be copied consistently is recognised before the first byte, with what to do about it.

A version is one point in time only if all that a filesystem lies on is read within one freeze. So
storage that keeps state of its own outside of filesystems that can be frozen is refused, and so is
a filesystem that lies partly on disks that are not protected.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

from notfallserver.agent.disks.base import Protected
from notfallserver.agent.disks.mounts import Mount, disks_below, leaves, members
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

_BLOCK = Path("/sys/class/block")
_CONTENTS: Dict[str, Tuple[str, str]] = {
    "zfs_member": (
        "ZFS",
        "Protect it by its own means (zfs send), or move the data to ext4 or XFS.",
    ),
    "bcache": ("bcache", "Detach the cache (bcache detach), or protect the data by other means."),
    "drbd": ("DRBD", "Protect the data on the device above it by other means."),
    "ceph_bluestore": ("Ceph", "Protect it by its own means."),
    "VDO": ("VDO", "Protect the data on the device above it by other means."),
}
_THIN = "-tpool"
"""LVM's ending of the UUID of a thin pool's device."""


def check_fitness(
    machine: Machine, disks: Sequence[Protected], mounts: Sequence[Mount], block: Path = _BLOCK
) -> None:
    """Raise what stands in the way, all of it in one error."""
    found = [*_contents(machine), *_thin_pools(disks, block), *_spread(disks, mounts)]
    if found:
        raise NotfallError(
            "storage-not-supported",
            " ".join(cause for cause, _ in found),
            " ".join(dict.fromkeys(remedy for _, remedy in found)),
        )


def _contents(machine: Machine) -> Iterator[Tuple[str, str]]:
    for disk in machine.disks:
        for part in disk.partitions:
            if part.filesystem in _CONTENTS:
                name, remedy = _CONTENTS[part.filesystem]
                where = f"{disk.name}, partition {part.number}" if part.number else disk.name
                yield f"{name} ({where}) cannot be copied at one point in time.", remedy


def _thin_pools(disks: Sequence[Protected], block: Path) -> Iterator[Tuple[str, str]]:
    protected = frozenset(one.device for one in disks)
    for node in sorted(block.glob("dm-*")):
        try:
            uuid = (node / "dm" / "uuid").read_text().strip()
            major, minor = (int(part) for part in (node / "dev").read_text().split(":"))
            name = (node / "dm" / "name").read_text().strip()
        except (OSError, ValueError):
            continue
        if uuid.endswith(_THIN) and disks_below(os.makedev(major, minor), protected):
            yield (
                f"The thin pool {name} cannot be copied at one point in time.",
                "Move its volumes to ordinary logical volumes (lvconvert cannot: copy them).",
            )


def _spread(disks: Sequence[Protected], mounts: Sequence[Mount]) -> Iterator[Tuple[str, str]]:
    """Filesystems of which only a part would be read."""
    protected = frozenset(one.device for one in disks)
    told: List[int] = []
    for mount in mounts:
        if mount.device in told or not mount.writable:
            continue
        told.append(mount.device)
        below = {leaf for one in members(mount) for leaf in leaves(one, protected)}
        if below & protected and below - protected:
            yield (
                f"{mount.place} lies also on a disk that is not protected.",
                "Protect all its disks: name them in /etc/notfall-agent/agent.json.",
            )
