"""Filesystems made larger or smaller, and how small they can get. All sizes are bytes.

Works on devices that nobody has mounted. A filesystem that is not clean is repaired only as at
every boot (its journal is played back); one that needs more is an error.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Iterator, List
from uuid import UUID

from notfallserver.guest.facts import Volume
from notfallserver.guest.layout import MIB
from notfallserver.guest.mounts import mounted
from notfallserver.guest.shell import run
from notfallserver.wire.errors import NotfallError

EXT = ("ext2", "ext3", "ext4")
LONG = 24 * 3600.0
"""Seconds that moving or checking a whole filesystem may take."""
SPARE = 64 * MIB
LEAST_XFS = 300 * MIB
"""mkfs.xfs makes no smaller one."""


def _with_room(used: int) -> int:
    """What is used, and a tenth more: a full filesystem is no place to work."""
    return used + used // 10 + SPARE


@contextmanager
def _mounted(volume: Volume, writable: bool = True) -> Iterator[Path]:
    where = Path(mkdtemp(prefix="resize-"))
    try:
        with mounted(volume, where, writable):
            yield where
    finally:
        where.rmdir()


def check(volume: Volume, whole: bool = True) -> None:
    """Play back the journal and repair what is repaired at a boot; ``whole``: look at all of it."""
    if volume.filesystem not in EXT:
        return
    look = ["-f", "-p"] if whole else ["-p"]
    done = run(["e2fsck", *look, volume.device], timeout=LONG, ok=range(256))
    if done.exit_code not in (0, 1):
        raise NotfallError(
            "filesystem-damaged",
            f"The filesystem on partition {volume.partition} of disk {volume.disk} needs repair "
            f"before its size can be changed: {(done.out + done.err).strip()[-300:]}",
            "Repair it inside the stand-in (e2fsck), or recover to disks of the original's sizes.",
            status=409,
        )


def least_size(volume: Volume) -> int:
    """So small it can be made, with some room to work in; 0 where it can't be made smaller."""
    kind = volume.filesystem
    if kind in EXT:
        check(volume, whole=False)
        told = run(["resize2fs", "-P", volume.device], timeout=LONG).out
        header = run(["dumpe2fs", "-h", volume.device], timeout=LONG).out
        blocks = re.search(r":\s*(\d+)\s*$", told)
        block = re.search(r"^Block size:\s*(\d+)", header, re.M)
        if not blocks or not block:
            return 0
        return _with_room(int(blocks.group(1)) * int(block.group(1)))
    if kind == "btrfs":
        with _mounted(volume) as where:
            if _devices_of(where) != 1:
                return 0
            told = run(["btrfs", "inspect-internal", "min-dev-size", str(where)], timeout=LONG).out
        found = re.match(r"(\d+)", told)
        return _with_room(int(found.group(1))) if found else 0
    if kind == "xfs":
        with _mounted(volume) as where:
            told_by = os.statvfs(where)
        used = (told_by.f_blocks - told_by.f_bfree) * told_by.f_frsize
        return max(LEAST_XFS, _with_room(used))
    return 0


def _devices_of(where: Path) -> int:
    told = run(["btrfs", "filesystem", "show", str(where)]).out
    return len(re.findall(r"^\s*devid\s", told, re.M))


def shrink(volume: Volume, size: int) -> None:
    """Make ext4 or Btrfs as small as ``size``; the partition stays as it is."""
    if volume.filesystem in EXT:
        check(volume)
        run(["resize2fs", volume.device, f"{size >> 10}K"], timeout=LONG)
    elif volume.filesystem == "btrfs":
        with _mounted(volume) as where:
            run(["btrfs", "filesystem", "resize", str(size), str(where)], timeout=LONG)
    else:
        raise NotfallError(
            "cannot-shrink", f"A filesystem '{volume.filesystem}' can't be made smaller.", ""
        )


def extend(volume: Volume) -> bool:
    """Make a filesystem as large as its device; False where it is of another kind."""
    if volume.filesystem in EXT:
        check(volume)
        run(["resize2fs", volume.device], timeout=LONG)
    elif volume.filesystem == "xfs":
        with _mounted(volume) as where:
            run(["xfs_growfs", str(where)], timeout=LONG)
    elif volume.filesystem == "btrfs":
        with _mounted(volume) as where:
            run(["btrfs", "filesystem", "resize", "max", str(where)], timeout=LONG)
    else:
        return False
    return True


def copy_xfs(source: Volume, target: Volume) -> None:
    """An XFS on ``target`` with identity, features and files of ``source``.

    Where an earlier copy lies there already, all contents are compared and only what differs is
    written, so that the next round of a recovery has little to send.
    """
    with _mounted(source) as old:
        again = _same_xfs(source, target)
        if not again:
            features = _features(run(["xfs_info", str(old)]).out)
            identity = ["-m", f"uuid={source.uuid}"]
            label = ["-L", source.label] if source.label else []
            make = ["mkfs.xfs", "-q", "-f", *identity, *features, *label, target.device]
            run(make, timeout=LONG)
        with _mounted(replace(target, filesystem="xfs")) as new:
            differing = ["--checksum", "--inplace", "--no-whole-file", "--delete"] if again else []
            files = ["rsync", "-aHAXS", "--numeric-ids", *differing, f"{old}/", f"{new}/"]
            run(files, timeout=LONG)


def _same_xfs(source: Volume, target: Volume) -> bool:
    """Whether ``target`` has an XFS of the same identity that fills it."""
    with open(target.device, "rb") as raw:
        head = raw.read(48)
    block = int.from_bytes(head[4:8], "big")
    if head[:4] != b"XFSB" or not block:
        return False
    size = int.from_bytes(head[8:16], "big") * block
    same = UUID(bytes=head[32:48]) == UUID(source.uuid)
    return same and size == target.size // block * block


_FEATURES = {
    "-m": ("crc", "finobt", "rmapbt", "reflink", "bigtime", "inobtcount"),
    "-i": ("sparse", "nrext64"),
    "-n": ("ftype",),
}


def _features(info: str) -> List[str]:
    """So that the boot loader and the kernel that knew the old one know the new one."""
    told = dict(re.findall(r"\b(\w+)=(\w+)", info))
    options = []
    for option, names in _FEATURES.items():
        known = [f"{one}={told[one]}" for one in names if told.get(one) in ("0", "1")]
        # what only newer tools know may be left out where it is off anyway
        known = [one for one in known if one not in ("nrext64=0",)]
        if option == "-i" and "isize" in told:
            known.append(f"size={told['isize']}")
        if known:
            options += [option, ",".join(known)]
    return options
