"""Checks the filesystems of an image, as far as there is a checker; nothing is repaired.

The image must be a clone that nobody needs afterwards. A filesystem of a frozen moment, or of a
machine whose power was cut, has a log that was not played back yet; until that is done its checker
finds what is no damage. So it is mounted for writing first and unmounted, as at its next start.
While it is mounted, files of it are compared with what the original told of them.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Dict, List, Sequence

from notfallserver.guest.facts import Volume
from notfallserver.guest.mounts import mounted
from notfallserver.guest.paths import inside
from notfallserver.guest.shell import Finished, run
from notfallserver.guest.volumes import opened_volumes
from notfallserver.wire.errors import NotfallError

CLEAN, DAMAGED, SKIPPED = "clean", "damaged", "skipped"
CHECKERS = {
    "ext2": ("e2fsck", "-fn"),
    "ext3": ("e2fsck", "-fn"),
    "ext4": ("e2fsck", "-fn"),
    "vfat": ("fsck.vfat", "-n"),
    "xfs": ("xfs_repair", "-n"),
    "btrfs": ("btrfs", "check", "--readonly"),
    # it looks at all files and counts their clusters, before it would change anything
    "ntfs": ("ntfsresize", "--info", "--force", "--bad-sectors", "--no-progress-bar"),
}
FOUND = {"ext2": (4, 12), "ext3": (4, 12), "ext4": (4, 12), "vfat": (1,), "xfs": (1,), "ntfs": (1,)}
"""Exit codes by which a checker says that it found something; any other is its own trouble."""
PLAYED_BACK = ("ext2", "ext3", "ext4", "xfs", "btrfs", "ntfs")
"""What is put in order when it is mounted (of ext2 only the counts), or, for NTFS, before."""
CONTAINERS = ("LVM2_member", "linux_raid_member")
"""What is in them is looked at instead."""
WHY_NOT = {
    "": "nothing that is known",
    "swap": "swap holds nothing that lasts",
    "crypto_LUKS": "encrypted",
}
LARGEST = 1 << 20
"""No file that is compared is larger."""
LIMIT_S = 3600.0
TOLD = 400
_HARMLESS = re.compile(
    r"\s*$|fsck\.|.* \d+ files, \d+/\d+ clusters$|Leaving filesystem unchanged"
    r"|There are differences between boot sector and its backup|This is mostly harmless"
    r"|\s*(\d+:[0-9a-f]{2}/[0-9a-f]{2},? *)+$|\s*Not automatically fixing this"
    r"|(0x\w+: )?Dirty bit is set|\s*Automatically removing dirty bit"
    r"|Free cluster summary (wrong|uninitialized)|\s*Auto-(correct|sett)ing"
)
"""FAT can't be frozen and has no log: what it looks like while it is mounted is no damage."""
_CHATTER = re.compile(r"The usage of the /f parameter|and will be made to NTFS by this software")


@dataclass(frozen=True)
class Checked:
    """``state``: clean, damaged or skipped; ``told``: what the checker said last, or why not."""

    volume: Volume
    state: str
    told: str = ""


@dataclass
class Comparison:
    """``files``: what the original told of some files. ``compared`` are those whose filesystem
    could be mounted, ``differing`` the paths of those that are not as they were told."""

    files: Sequence[Dict[str, Any]] = ()
    compared: int = 0
    differing: List[str] = field(default_factory=list)

    def look(self, volume: Volume, where: Path) -> None:
        for one in self.files:
            if str(one.get("filesystem", "")).lower() != volume.uuid.lower():
                continue
            self.compared += 1
            if not _is_as_told(where, one):
                self.differing.append(str(one.get("path", "")))


def _is_as_told(where: Path, one: Dict[str, Any]) -> bool:
    try:
        path = inside(where, str(one["path"]))
        handle = os.open(str(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            content = file.read(LARGEST + 1)
        told = (int(one["size"]), str(one["sha256"]))
        return (len(content), sha256(content).hexdigest()) == told
    except (OSError, KeyError, TypeError, ValueError, NotfallError):
        return False


def check_filesystems(disks: Sequence[str], comparison: Comparison) -> List[Checked]:
    """All volumes of the disks, those in arrays and volume groups as well; this writes to them."""
    found: List[Checked] = []
    with opened_volumes(disks) as volumes:
        devices = [one.device for one in volumes if one.filesystem == "btrfs"]
        if devices:
            run(["btrfs", "device", "scan", *devices], ok=range(256))
        seen: Dict[str, str] = {}
        for volume in volumes:
            if volume.filesystem in CONTAINERS:
                continue
            if volume.filesystem == "btrfs":
                first = seen.setdefault(volume.uuid, volume.device)
                if first != volume.device:
                    found.append(Checked(volume, SKIPPED, f"part of {first}"))
                    continue
            found.append(check(volume, comparison))
    return found


def check(volume: Volume, comparison: Comparison) -> Checked:
    tool = CHECKERS.get(volume.filesystem)
    if tool is None:
        return Checked(volume, SKIPPED, WHY_NOT.get(volume.filesystem, "no check is known"))
    refused = _play_back(volume, comparison)
    try:
        done = run([*tool, volume.device], timeout=LIMIT_S, ok=range(-64, 256))
    except NotfallError as error:
        return Checked(volume, SKIPPED, error.cause[:TOLD])
    state = judge(volume.filesystem, done)
    told = "" if state == CLEAN else last_words(done)
    if refused and state != CLEAN:
        told = (refused[: TOLD // 2] + " | " + told)[:TOLD]
    return Checked(volume, state, told)


def _play_back(volume: Volume, comparison: Comparison) -> str:
    """Why it could not be mounted; empty where it could."""
    if volume.filesystem not in PLAYED_BACK:
        return ""
    # A filesystem may be set to take the whole kernel down when it finds an error.
    options = "errors=remount-ro" if volume.filesystem.startswith("ext") else ""
    if volume.filesystem == "btrfs":
        options = "subvolid=5"  # all of it, whatever is mounted at home
    ntfs = volume.filesystem == "ntfs"
    if ntfs:  # which, mounted for writing, would have its log thrown away
        run(["ntfsrecover", volume.device], ok=range(256), timeout=LIMIT_S)
    where = Path(mkdtemp(prefix="check-"))
    try:
        with mounted(volume, where, writable=not ntfs, options=options):
            comparison.look(volume, where)
            return ""
    except NotfallError as error:
        return error.cause
    finally:
        where.rmdir()


def judge(filesystem: str, done: Finished) -> str:
    """What a checker's end means."""
    if done.exit_code == 0:
        return CLEAN
    if filesystem == "vfat" and done.exit_code == 1 and not _grave_lines(done.out + done.err):
        return CLEAN
    if filesystem == "btrfs":  # it has no code of its own for trouble that is not the filesystem's
        return DAMAGED if done.exit_code == 1 else SKIPPED
    return DAMAGED if done.exit_code in FOUND[filesystem] else SKIPPED


def _grave_lines(text: str) -> List[str]:
    return [line for line in text.splitlines() if not _HARMLESS.match(line)]


def last_words(done: Finished) -> str:
    lines = [one.strip() for one in (done.out + "\n" + done.err).splitlines()]
    lines = [one for one in lines if one and not _CHATTER.match(one)]
    return " | ".join(lines[-6:])[-TOLD:]
