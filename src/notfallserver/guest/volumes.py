"""Finds what is on the disks of an image: partitions, filesystems, arrays, logical volumes.

Works without udev. Only the disks that are named are looked at, assembled or activated.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Dict, Iterator, List, Sequence, Tuple

from notfallserver.guest.facts import Volume
from notfallserver.guest.shell import run

_NO_UDEV = (
    "activation{udev_sync=0 udev_rules=0} devices{use_devicesfile=0 obtain_device_list_from_udev=0"
)


@contextmanager
def opened_volumes(disks: Sequence[str], writable: bool = True) -> Iterator[Tuple[Volume, ...]]:
    """All volumes of the disks (paths as ``/dev/vda``, in the order of the image)."""
    plain = list_volumes(disks)
    arrays = _assemble(plain, writable)
    members = plain + arrays
    groups = _activate(members)
    try:
        logical = [probe(path) for path in _logical_volumes(members)] if groups else []
        yield tuple(members + logical)
    finally:
        if groups:
            run(["lvm", "vgchange", "-an", "--config", lvm_config(members), *groups], ok=range(256))
        for array in arrays:
            run(["mdadm", "--stop", array.device], ok=range(256))


def list_volumes(disks: Sequence[str]) -> List[Volume]:
    """Partitions, or the disk itself where it has none."""
    found: List[Volume] = []
    for at, disk in enumerate(disks):
        base = Path("/sys/class/block") / Path(disk).name
        parts = sorted(
            (int((one / "partition").read_text()), one.name)
            for one in base.iterdir()
            if (one / "partition").is_file()
        )
        for number, name in parts:
            found.append(probe(f"/dev/{name}", at, number))
        if not parts:
            found.append(probe(disk, at, 0))
    return found


def probe(device: str, disk: int = -1, partition: int = 0) -> Volume:
    """What blkid says about one device."""
    told: Dict[str, str] = {}
    for line in run(["blkid", "-p", "-o", "export", device], ok=(0, 2, 8)).out.splitlines():
        key, _, value = line.partition("=")
        told[key] = value.replace("\\ ", " ")
    name = Path(device).resolve().name
    size = Path(f"/sys/class/block/{name}/size")
    return Volume(
        device=device,
        disk=disk,
        partition=partition,
        filesystem=told.get("TYPE", ""),
        uuid=told.get("UUID", ""),
        label=told.get("LABEL", ""),
        part_uuid=told.get("PART_ENTRY_UUID", ""),
        kind=told.get("PART_ENTRY_TYPE", ""),
        size=int(size.read_text()) * 512 if size.is_file() else 0,
    )


def _assemble(volumes: Sequence[Volume], writable: bool) -> List[Volume]:
    members = [one.device for one in volumes if one.filesystem == "linux_raid_member"]
    if not members:
        return []
    before = set(Path("/sys/class/block").glob("md*"))
    run(["modprobe", "-qa", "md_mod", "raid0", "raid1", "raid10", "raid456"], ok=range(256))
    with NamedTemporaryFile("w", suffix=".conf") as config:
        config.write(f"DEVICE {' '.join(members)}\n")
        config.flush()
        mode = [] if writable else ["--readonly"]
        run(["mdadm", "--assemble", "--scan", "--run", *mode, "-c", config.name], ok=range(256))
    made = set(Path("/sys/class/block").glob("md*")) - before
    return [probe(f"/dev/{one.name}") for one in sorted(made) if (one / "md").is_dir()]


def lvm_config(volumes: Sequence[Volume]) -> str:
    """Settings by which LVM sees these volumes and no others."""
    members = [one.device for one in volumes if one.filesystem == "LVM2_member"]
    accept = ", ".join(f'"a|^{device}$|"' for device in members)
    return f'{_NO_UDEV} filter=[{accept}, "r|.*|"] scan=["/dev"]}}'


def _activate(volumes: Sequence[Volume]) -> List[str]:
    if not any(one.filesystem == "LVM2_member" for one in volumes):
        return []
    run(["modprobe", "-qa", "dm_mod", "dm_snapshot", "dm_mirror", "dm_raid"], ok=range(256))
    told = run(
        ["lvm", "vgs", "--reportformat", "json", "-o", "vg_name", "--config", lvm_config(volumes)]
    )
    groups = [row["vg_name"] for row in json.loads(told.out)["report"][0]["vg"]]
    if groups:
        run(["lvm", "vgchange", "-ay", "--config", lvm_config(volumes), *groups])
        run(["lvm", "vgmknodes", "--config", lvm_config(volumes)], ok=range(256))
    return groups


def _logical_volumes(volumes: Sequence[Volume]) -> List[str]:
    told = run(
        [
            "lvm",
            "lvs",
            "--reportformat",
            "json",
            "-o",
            "lv_dm_path",
            "--config",
            lvm_config(volumes),
        ]
    )
    rows = json.loads(told.out)["report"][0]["lv"]
    return [row["lv_dm_path"] for row in rows if Path(row["lv_dm_path"]).exists()]


def table_of(disk: str) -> str:
    """The partition table's kind: ``dos``, ``gpt`` or empty."""
    told = run(["blkid", "-p", "-s", "PTTYPE", "-o", "value", disk], ok=(0, 2, 8)).out.strip()
    return told if told in ("dos", "gpt") else ""
