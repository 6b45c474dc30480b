"""What is mounted, and on which protected disks it lives, through partitions, dm, md and loops."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import FrozenSet, Iterable, List, Sequence, Set

from notfallserver.agent.disks.base import device_at

_SYS = Path("/sys/dev/block")
_BTRFS = Path("/sys/fs/btrfs")


@dataclass(frozen=True)
class Mount:
    """One filesystem at one place. ``device`` as stat(2) tells the block device."""

    device: int
    place: str
    kind: str
    writable: bool
    root: str = "/"


def read_mounts(text: str) -> List[Mount]:
    """Parse ``/proc/self/mountinfo``, in the order of mounting; only block devices."""
    found: List[Mount] = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, told = left.split(" "), right.split(" ")
        if len(fields) < 6 or len(told) < 3:
            continue
        major, minor = (int(part) for part in fields[2].split(":"))
        device = os.makedev(major, minor)
        source = _plain(told[1])
        if not major:  # Btrfs numbers its mounts itself
            if not source.startswith("/dev/"):
                continue
            try:
                device = Path(source).stat().st_rdev
            except OSError:
                continue
            if not device:
                continue
        writable = "rw" in told[2].split(",")
        found.append(Mount(device, _plain(fields[4]), told[0], writable, _plain(fields[3])))
    return found


def _plain(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def current_mounts() -> List[Mount]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
        return read_mounts(stream.read())


def open_mount(mount: Mount) -> int:
    """The mount point, open; -1 where another mount hides it."""
    try:
        handle = os.open(mount.place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return -1
    with contextlib.suppress(OSError):
        if os.fstat(handle).st_dev == mount.device or mount.kind == "btrfs":
            return handle
    os.close(handle)
    return -1


def disks_below(device: int, protected: FrozenSet[int]) -> Set[int]:
    """The protected whole disks on which a block device lives."""
    return leaves(device, protected) & protected


def leaves(device: int, protected: FrozenSet[int], depth: int = 0) -> Set[int]:
    """The whole disks on which a block device lives, protected or not."""
    if device in protected:
        return {device}
    node = _SYS / f"{os.major(device)}:{os.minor(device)}"
    if depth > 16 or not node.exists():
        return set()
    if (node / "partition").exists():
        return leaves(device_at(node.resolve().parent), protected, depth + 1)
    below = [device_at(one) for one in node.glob("slaves/*")]
    with contextlib.suppress(OSError):
        backing = (node / "loop" / "backing_file").read_text().rstrip("\n")
        below.append(Path(backing).stat().st_dev)
    if not below:
        return {device}
    return {leaf for one in below for leaf in leaves(one, protected, depth + 1)}


def members(mount: Mount) -> Set[int]:
    """The devices of a filesystem; only Btrfs may have several."""
    if mount.kind == "btrfs":
        for group in _BTRFS.glob("*/devices"):
            found = {device_at(one) for one in group.iterdir()}
            if mount.device in found:
                return found
    return {mount.device}


def to_freeze(mounts: Sequence[Mount], disks: Iterable[int]) -> List[List[Mount]]:
    """Writable filesystems on the disks, inner ones first; each with all places it is mounted at.

    What was mounted later may lie on or in what was mounted before, never the other way round.
    """
    protected = frozenset(disks)
    places: List[List[Mount]] = []
    order: List[int] = []
    for one in mounts:
        if not one.writable:
            continue
        if one.device in order:
            places[order.index(one.device)].append(one)
        elif disks_below(one.device, protected):
            order.append(one.device)
            places.append([one])
    return places[::-1]
