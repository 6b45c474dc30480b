"""What cannot be copied consistently is recognised before the first byte, with what to do about it.

A version is one point in time only if all that a filesystem lies on is read within one freeze. So
storage is refused that goes on moving data by itself while the filesystems above it stand still
(thin pools, caches, journals of blocks, reshaping), or that other machines write to; and so is a
filesystem that lies partly on disks that are not protected. LVM's classic snapshots are fit: they
write nothing unless somebody writes to the volume or the snapshot, and both stand still.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from notfallserver.agent.disks import md
from notfallserver.agent.disks.base import Protected, device_at
from notfallserver.agent.disks.dm import Mapper, Target
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
    "bcachefs": ("bcachefs", "Move the data to ext4, XFS or Btrfs."),
    "drbd": ("DRBD", "Protect the data on the device above it by other means."),
    "ceph_bluestore": ("Ceph", "Protect it by its own means."),
    "VDO": ("VDO", "Protect the data on the device above it by other means."),
    "stratis": ("Stratis", "Move the data to ext4 or XFS on LVM or a partition."),
    "gfs2": ("The cluster filesystem GFS2", "Protect it by the cluster's own means."),
    "ocfs2": ("The cluster filesystem OCFS2", "Protect it by the cluster's own means."),
}
_MOVE = "Move its volumes to ordinary logical volumes (lvconvert cannot: copy them)."
_UNCACHE = "Remove the cache while the volume stays (lvconvert --uncache)."
_TARGETS: Dict[str, Tuple[str, str]] = {
    "thin-pool": ("The thin pool {}", _MOVE),
    "cache": ("The cached volume {}", _UNCACHE),
    "writecache": ("The cached volume {}", _UNCACHE),
    "vdo": ("The VDO volume {}", "Move the data to an ordinary logical volume."),
    "clone": ("The volume {}, which is being cloned,", "Wait until it is complete."),
    "snapshot-merge": (
        "The volume {}, into which a snapshot is being merged,",
        "Wait until it is complete; lvs shows how far it is.",
    ),
}
"""By the kind of a device-mapper target: what it is, and the remedy."""
_JOURNAL = (
    "The volume {} with integrity journal",
    "Use its bitmap mode or none (lvchange --raidintegritymode, integritysetup), or protect the "
    "data by other means.",
)
_RESHAPED_VOLUME = (
    "The volume {}, which is being reshaped,",
    "Wait until it is complete; lvs shows how far it is.",
)
_REENCRYPTED = (
    "The encrypted volume {}, which is being encrypted anew,",
    "Wait until it is complete, or stop it for now (cryptsetup reencrypt goes on later).",
)
_HOT_ZONE = ("-hotzone-forward", "-hotzone-backward")
"""cryptsetup ends so the name of the device through which it moves data below a mounted volume."""
_RESHAPE = ("The array {}, which is being reshaped,", "Wait until it is complete (/proc/mdstat).")
_ARRAY_JOURNAL = (
    "The array {} with journal",
    "Use a bitmap instead of the journal (mdadm --grow --consistency-policy).",
)
_CANNOT = "{} cannot be copied at one point in time."

Tables = Callable[[int], List[Target]]
"""The table of a device-mapper device, by its number."""


def check_fitness(
    machine: Machine,
    disks: Sequence[Protected],
    mounts: Sequence[Mount],
    block: Path = _BLOCK,
    tables: Optional[Tables] = None,
) -> None:
    """Raise what stands in the way, all of it in one error."""
    with contextlib.closing(Mapper()) as mapper:
        found = [
            *_contents(machine),
            *_volumes(disks, block, tables or mapper.table),
            *_spread(disks, mounts),
        ]
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
                yield _CANNOT.format(f"{name} ({where})"), remedy


def _volumes(disks: Sequence[Protected], block: Path, tables: Tables) -> Iterator[Tuple[str, str]]:
    """Devices made of others on protected disks."""
    protected = frozenset(one.device for one in disks)
    for node in sorted([*block.glob("dm-*"), *block.glob("md*")]):
        try:
            device = device_at(node)
            mapped = (node / "dm").exists()
            name = (node / "dm" / "name").read_text().strip() if mapped else node.name
        except (OSError, ValueError):
            continue
        if disks_below(device, protected):
            if mapped and name.endswith(_HOT_ZONE):
                what, remedy = _REENCRYPTED
                yield _CANNOT.format(what.format(name.rpartition("-hotzone-")[0])), remedy
            for what, remedy in _moving(node, tables(device) if mapped else []):
                yield _CANNOT.format(what.format(name)), remedy


def _moving(node: Path, table: Sequence[Target]) -> Iterator[Tuple[str, str]]:
    for kind, fields in {one.kind: one.fields for one in table}.items():
        if kind in _TARGETS:
            yield _TARGETS[kind]
        elif kind == "integrity" and fields[:1] == ("J",):
            yield _JOURNAL
        elif kind == "raid" and fields[:1] == ("reshape",):
            yield _RESHAPED_VOLUME
    if not table and md.is_reshaping(node):
        yield _RESHAPE
    if not table and md.has_journal(node):
        yield _ARRAY_JOURNAL


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
