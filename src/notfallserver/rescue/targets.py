"""Which disks an order means, and the last look before the first write.

A disk is named three times: by kernel name, serial number and size. All must be as they were when a
person confirmed; a disk that no order names is never opened for writing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Mapping, Tuple

from notfallserver.rescue.probe import SYS_BLOCK, bare_disk
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk


@dataclass(frozen=True)
class TargetDisk:
    """``index`` counts the version's disks; ``size`` is this disk's own, in bytes."""

    index: int
    name: str
    serial: str
    size: int

    @property
    def path(self) -> str:
        return f"/dev/{self.name}"


def read_disks(order: Mapping[str, Any]) -> List[TargetDisk]:
    try:
        disks = [
            TargetDisk(int(one["index"]), str(one["name"]), str(one["serial"]), int(one["size"]))
            for one in order["disks"]
        ]
    except (KeyError, TypeError, ValueError):
        disks = []
    indices = [one.index for one in disks]
    if not disks or indices != list(range(len(disks))) or len({d.name for d in disks}) < len(disks):
        raise NotfallError(
            "bad-order", "The server's order names no clear list of disks.", "Update both sides."
        )
    if any("/" in one.name or one.name.startswith(".") for one in disks):
        raise NotfallError("bad-order", "The server's order names a strange disk.", "")
    return disks


def check_disk(wanted: TargetDisk) -> None:
    """Refuse unless the disk is just the one that was confirmed, and nobody uses it."""
    if not (SYS_BLOCK / wanted.name).is_dir():
        raise _changed(wanted, "is not there any more")
    found = bare_disk(wanted.name)
    refuse_other(wanted, found)
    busy = busy_reason(wanted.name)
    if busy:
        raise NotfallError(
            "disk-busy",
            f"The disk {wanted.name} is in use here: {busy}. Nothing was written.",
            "Release the disk in the rescue system's shell (Alt+F2), or reboot the medium.",
        )


def refuse_other(wanted: TargetDisk, found: Disk) -> None:
    if found.serial != wanted.serial:
        raise _changed(wanted, f"has serial '{found.serial}' and not '{wanted.serial}'")
    if found.size != wanted.size:
        raise _changed(wanted, f"has {found.size} bytes and not {wanted.size}")


def writes_so_far(name: str) -> Tuple[int, int]:
    """Sectors of the disk written and discarded since the machine started, by whomever.

    Fields 7 and 14 of ``/sys/block/*/stat`` (kernel's Documentation/block/stat.rst).
    """
    fields = (SYS_BLOCK / name / "stat").read_text().split()
    return int(fields[6]), int(fields[13]) if len(fields) > 13 else 0


def busy_reason(name: str) -> str:
    """Mounted, swapped on, or part of something assembled; empty when free."""
    base = SYS_BLOCK / name
    parts = [name, *(one.name for one in base.iterdir() if (one / "partition").is_file())]
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    swaps = Path("/proc/swaps").read_text().splitlines()
    used = {line.split()[0] for line in mounts + swaps if line.split()}
    for part in parts:
        if f"/dev/{part}" in used:
            return f"{part} is mounted or used as swap"
        holders = SYS_BLOCK.parent / "class/block" / part / "holders"
        if holders.is_dir() and any(holders.iterdir()):
            return f"{part} belongs to {next(holders.iterdir()).name}"
    return ""


def _changed(wanted: TargetDisk, what: str) -> NotfallError:
    return NotfallError(
        "disk-changed",
        f"The disk {wanted.name} {what}. Nothing was written.",
        "Look at the target's disks again and confirm the recovery anew.",
    )
