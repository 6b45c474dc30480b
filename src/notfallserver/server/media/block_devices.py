"""Which disks of this server may be written over, and why the others may not.

The worst that could happen is the wrong disk. So one that is used in any way is refused, whoever
asks; one that is built in needs a word more; and each must be named by what is printed on it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notfallserver.server.host.run import run
from notfallserver.wire.errors import NotfallError

_COLUMNS = (
    "NAME,PATH,TYPE,SIZE,RO,RM,HOTPLUG,TRAN,VENDOR,MODEL,SERIAL,FSTYPE,LABEL,PTTYPE,MOUNTPOINTS,"
    "LOG-SEC"
)
_MEMBERS = ("LVM2_member", "linux_raid_member", "zfs_member", "bcache", "drbd", "ceph_bluestore")
"""What is a part of something larger even where nothing uses it just now."""
_WHOLE = ("disk", "loop")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Part:
    """A partition, or the whole disk, and what is on it."""

    name: str
    size: int
    filesystem: str = ""
    label: str = ""


@dataclass(frozen=True)
class BlockDevice:
    """``attached`` is another number each time that any disk is attached, and with each start of
    the machine; ``removable``: it can be pulled out. ``busy``: why it may not be touched."""

    name: str
    path: str
    size: int
    sector: int
    model: str
    serial: str
    transport: str
    removable: bool
    attached: str
    table: str
    parts: tuple[Part, ...]
    busy: str = ""
    member: str = ""

    @property
    def confirmation(self) -> str:
        """What a person repeats: the serial number, or name and size where there is none."""
        return self.serial or f"{self.name}-{self.size}"


def all_disks() -> list[BlockDevice]:
    told = json.loads(run(["lsblk", "-J", "-b", "-o", _COLUMNS]).out)
    return [
        _with_hold(_read(one))
        for one in told["blockdevices"]
        if one["type"] in _WHOLE and one["size"]
    ]


def find_disk(path: str) -> BlockDevice:
    """The disk at ``path``; other names of it (/dev/disk/by-id/...) are followed."""
    real = str(Path(path).resolve())
    found = next((one for one in all_disks() if one.path == real), None)
    if found is None:
        raise NotfallError(
            "disk-unknown",
            f"{path} is no whole disk of this server.",
            "See the disks: notfall export disks. Name the disk, not a partition of it.",
            status=404,
        )
    return found


def _read(told: Mapping[str, Any]) -> BlockDevice:
    name = str(told["name"])
    below = list(_below(told))
    return BlockDevice(
        name=name,
        path=str(told["path"]),
        size=int(told["size"]),
        sector=int(told["log-sec"] or 512),
        model=" ".join(f"{told['vendor'] or ''} {told['model'] or ''}".split()),
        serial=str(told["serial"] or "").strip(),
        transport=str(told["tran"] or ""),
        removable=bool(told["rm"] or told["hotplug"] or told["tran"] == "usb"),
        attached=f"{BOOT_ID.read_text().strip()}-{_diskseq(name)}",
        table=str(told["pttype"] or ""),
        parts=tuple(_part(one) for one in (told, *below) if one["type"] in (*_WHOLE, "part")),
        busy="this disk is read-only" if told["ro"] else busy_reason([told, *below]),
        member=next((str(o["fstype"]) for o in (told, *below) if o["fstype"] in _MEMBERS), ""),
    )


def _below(told: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for one in told.get("children", ()):
        yield one
        yield from _below(one)


def _part(told: Mapping[str, Any]) -> Part:
    filesystem, label = str(told["fstype"] or ""), str(told["label"] or "")
    return Part(str(told["name"]), int(told["size"]), filesystem, label)


def _diskseq(name: str) -> str:
    try:
        return (Path("/sys/block") / name / "diskseq").read_text().strip()
    except OSError:
        return ""  # before Linux 5.15


def busy_reason(nodes: Sequence[Mapping[str, Any]]) -> str:
    """Of a disk and all that hangs below it; empty when nobody uses it. Pure."""
    for one in nodes:
        places = [str(place) for place in one.get("mountpoints") or () if place]
        if places:
            return f"{one['name']} is in use at {places[0]}"
        if one["type"] not in (*_WHOLE, "part"):
            return f"{one['name']} ({one['type']}) is made of it"
    return ""


def _with_hold(disk: BlockDevice) -> BlockDevice:
    """What nobody tells of is found by asking for the disk alone, as a mount would."""
    if disk.busy:
        return disk
    try:
        os.close(os.open(disk.path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        why = error.strerror or str(error)
        return BlockDevice(**{**vars(disk), "busy": f"it is held by something ({why})"})
    return disk


@dataclass(frozen=True)
class Target:
    """As a person confirmed it; ``internal``: also if it is no removable disk."""

    path: str
    confirm: str
    internal: bool = False
    attached: str = ""


def check_target(disk: BlockDevice, wanted: Target, size: int, sector: int) -> None:
    """Raise unless the disk may be written over with an image of ``size`` bytes. Pure."""
    if disk.busy:
        raise NotfallError(
            "export-disk-busy",
            f"{disk.path} is in use: {disk.busy}. Nothing was written.",
            "Take another disk; or unmount it, if it is really the right one.",
            status=409,
        )
    if wanted.attached and disk.attached != wanted.attached:
        raise NotfallError(
            "export-disk-changed",
            f"{disk.path} is not the disk that was confirmed. Nothing more was written.",
            "Look at the disks again and confirm anew.",
            status=409,
        )
    if wanted.confirm != disk.confirmation:
        raise NotfallError(
            "disk-not-confirmed",
            f"{disk.path} ({disk.model or 'no model'}, {disk.size} bytes) was not confirmed by "
            "what it shows.",
            f"Compare it with the disk itself, then repeat: {disk.confirmation}",
            status=409,
        )
    if (not disk.removable or disk.member) and not wanted.internal:
        what = f"a part of something ({disk.member})" if disk.member else "not removable"
        raise NotfallError(
            "disk-internal",
            f"{disk.path} is {what}.",
            "Only if you are sure that nothing needs it: --internal",
            status=409,
        )
    if disk.size < size:
        raise NotfallError(
            "disk-small",
            f"{disk.path} has {disk.size} bytes; the server's disk has {size}.",
            "Take a larger disk.",
            status=409,
        )
    if disk.sector != sector:
        raise NotfallError(
            "disk-sector",
            f"{disk.path} has sectors of {disk.sector} bytes, the server's disk of {sector}.",
            "Take a disk with the same sectors; a system can't start from another.",
            status=409,
        )
