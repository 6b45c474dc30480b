"""A few files whose content is told with a version, so that a copy can be compared with it.

Only files that nobody has changed for a day are taken, at random and small, and they are hashed
before the frozen moment; afterwards those count that are still as they were then, by inode, size,
and the times of their last changes. So nothing is read while everything stands still, and what is
told held in that moment. Nothing of it may fail or delay a run: it is bounded in number, bytes and
time, and what can't be read is left out.
"""

from __future__ import annotations

import os
import random
import stat
import time
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

from notfallserver.agent import commands
from notfallserver.agent.disks.mounts import Mount, current_mounts, disks_below
from notfallserver.agent.sampling import AT_REST_S, FILES, LARGEST, WITHIN_S, told
from notfallserver.wire.errors import NotfallError

LOOKED_AT = 400
"""So many entries of a directory, and no more."""
DEPTH = 12
KINDS = ("ext2", "ext3", "ext4", "xfs", "btrfs")
ADAPTED = (
    *("/etc", "/boot", "/efi", "/dev", "/run", "/proc", "/sys", "/tmp", "/lib/modules"),
    *("/usr/lib/modules", "/var/cache", "/var/log", "/var/tmp", "/var/lib/initramfs-tools"),
    *("/var/lib/dracut", "/usr/share/initramfs-tools"),
)
"""Where the adaptation of a copy may write, and what no two moments share."""


@dataclass(frozen=True)
class Taken:
    """A file as it was hashed; ``inside`` is its path from the filesystem's own root."""

    filesystem: str
    inside: str
    path: str
    sha256: str
    seen: Tuple[int, ...]

    def to_json(self) -> Dict[str, Any]:
        return told(self.filesystem, self.inside, self.seen[1], self.sha256)


def take_sample(disks: Iterable[int]) -> List[Taken]:
    """Files of the filesystems on these disks (device numbers)."""
    until = time.monotonic() + WITHIN_S
    protected = frozenset(disks)
    places: Dict[int, Mount] = {}
    for mount in current_mounts():
        if mount.kind in KINDS and mount.writable and disks_below(mount.device, protected):
            places.setdefault(mount.device, mount)
    each = -(-FILES // max(1, len(places)))
    found: List[Taken] = []
    for mount in places.values():
        uuid = _uuid(mount.device)
        if uuid:
            found += islice(_files_of(mount, uuid, until), each)
    return found[:FILES]


def still_true(sample: Sequence[Taken]) -> List[Dict[str, Any]]:
    """Those that nobody touched since they were hashed, as they are told."""
    return [one.to_json() for one in sample if _seen(one.path) == one.seen]


def _uuid(device: int) -> str:
    node = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    try:
        return commands.run(
            ["blkid", "-p", "-s", "UUID", "-o", "value", f"/dev/{node.name}"]
        ).strip()
    except NotfallError:
        return ""


def _files_of(mount: Mount, uuid: str, until: float) -> Iterator[Taken]:
    """At random, each once; over when time is, or when nothing new is found."""
    luck, known, misses = random.Random(), set(), 0
    while time.monotonic() < until and misses < 200:
        path = _stumble_upon(mount.place, luck)
        taken = _hashed(mount, uuid, path) if path and path not in known else None
        if taken is None:
            misses += 1
            continue
        known.add(taken.path)
        misses = 0
        yield taken


def _stumble_upon(place: str, luck: random.Random) -> Optional[str]:
    """A regular file at the end of a random way down; never through a link or another mount."""
    at = place
    try:
        device = os.lstat(place).st_dev
        for _ in range(DEPTH):
            with os.scandir(at) as entries:
                here = list(islice(entries, LOOKED_AT))
            here = [one for one in here if not _is_adapted(one.path)]
            if not here:
                return None
            one = luck.choice(here)
            if one.is_file(follow_symlinks=False):
                return one.path
            if not one.is_dir(follow_symlinks=False):
                return None
            if one.stat(follow_symlinks=False).st_dev != device:
                return None
            at = one.path
    except OSError:
        pass
    return None


def _is_adapted(path: str) -> bool:
    return any(path == one or path.startswith(one + "/") for one in ADAPTED)


def _hashed(mount: Mount, uuid: str, path: str) -> Optional[Taken]:
    try:
        path.encode()  # a name that is no UTF-8 can't be told
        seen = _seen(path)
        if seen is None or not 0 < seen[1] <= LARGEST:
            return None
        if time.time() - max(seen[2], seen[3]) / 1e9 < AT_REST_S:
            return None
        content = _read(path)
    except (OSError, UnicodeEncodeError):
        return None
    if content is None or len(content) != seen[1] or _seen(path) != seen:
        return None
    inside = os.path.normpath(f"{mount.root}/{os.path.relpath(path, mount.place)}")
    return Taken(uuid, "/" + inside.lstrip("/"), path, sha256(content).hexdigest(), seen)


def _seen(path: str) -> Optional[Tuple[int, ...]]:
    """Inode, size, times of the last changes; None for all but regular files."""
    try:
        told = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(told.st_mode):
        return None
    return told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns, told.st_dev


def _read(path: str) -> Optional[bytes]:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path, flags | os.O_NOATIME)
    except PermissionError:  # somebody else's file, for who is not root
        handle = os.open(path, flags)
    with os.fdopen(handle, "rb") as file:
        return file.read(LARGEST + 1)
