"""Looks into an image that no agent describes, and says what machine it is of. Writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Sequence

from notfallserver.guest.facts import Volume
from notfallserver.guest.identify import find_disk_names, find_network
from notfallserver.guest.inspect import files_below
from notfallserver.guest.mounts import MountedSystem, fstab_lines, mounted_system
from notfallserver.guest.names import DeviceNames
from notfallserver.guest.network import NETWORK_FOLDERS
from notfallserver.guest.paths import inside, read_text
from notfallserver.guest.volumes import opened_volumes
from notfallserver.guest.windows.mounts import BITLOCKER, NTFS, windows_volume
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine

MOST_VOLUMES = 512
MOST_NAME = 253


def look_inside(disks: Sequence[str]) -> Dict[str, Any]:
    """Volumes, and what the first system found says of itself; ``trouble``: why it says nothing."""
    with opened_volumes(disks, writable=False) as volumes:
        told: Dict[str, Any] = {}
        points: Dict[str, str] = {}
        try:
            with mounted_system(volumes, Machine(""), writable=False) as mounted:
                if not mounted.locked:
                    told = describe_system(mounted)
                    points = mount_points(mounted, volumes, told["disks"], len(disks))
        except NotfallError as error:
            told = _windows(volumes, disks) if error.code == "no-system" else {}
            told = told or {"trouble": error.code}
        told["volumes"] = [
            {
                "disk": one.disk,
                "partition": one.partition,
                "filesystem": one.filesystem,
                "uuid": one.uuid,
                "label": one.label,
                "mountpoint": points.get(one.device, ""),
            }
            for one in volumes[:MOST_VOLUMES]
        ]
        return told


def _windows(volumes: Sequence[Volume], disks: Sequence[str]) -> Dict[str, Any]:
    """Empty where there is none."""
    if not any(one.filesystem in (NTFS, BITLOCKER) for one in volumes):
        return {}
    try:
        found = windows_volume(volumes)
        if found is None:
            return {}
        # only images of Windows need what opens its registry
        from notfallserver.guest.windows.look import look_windows

        return look_windows(found, volumes, disks)
    except NotfallError as error:
        return {"trouble": error.code}


def describe_system(mounted: MountedSystem) -> Dict[str, Any]:
    """In the words of a machine's description (``wire.facts``)."""
    root = mounted.root
    texts = {
        path: read_text(root, path)
        for folder in NETWORK_FOLDERS
        for path in files_below(root, folder)
    }
    network = find_network(texts)
    release = read_text(root, "/etc/os-release")
    system = [line[12:].strip('"') for line in release.splitlines() if line[:12] == "PRETTY_NAME="]
    boot = [read_text(root, one) for one in ("/etc/fstab", "/boot/grub/grub.cfg")]
    return {
        "hostname": (read_text(root, "/etc/hostname").split() or [""])[0][:MOST_NAME],
        "system": (system or [""])[0][:MOST_NAME],
        "kernel": newest_kernel(root),
        "gateway": network.gateway,
        "nics": [
            {"name": one.name, "mac": one.mac, "addresses": list(one.addresses)}
            for one in network.cards
        ],
        "disks": find_disk_names(boot),
    }


def newest_kernel(root: Path) -> str:
    """Its version; empty where there is none."""
    kernels: List[Path] = list(inside(root, "/boot").glob("vmlinuz-*"))
    kernels.sort(key=lambda one: one.lstat().st_mtime)
    return kernels[-1].name.partition("-")[2][:MOST_NAME] if kernels else ""


def mount_points(
    mounted: MountedSystem, volumes: Sequence[Volume], prefix: str, count: int
) -> Dict[str, str]:
    """Where the system mounts its volumes, by their devices here."""
    disks = [Disk(f"{prefix}{chr(ord('a') + at)}", 0) for at in range(min(count, 26))]
    if prefix == "nvme":
        disks = [Disk(f"nvme{at}n1", 0) for at in range(count)]
    names = DeviceNames(volumes, Machine("", disks=disks if prefix else []))
    found = {mounted.mounts["/"].device: "/"}
    for spec, point, _ in fstab_lines(read_text(mounted.root, "/etc/fstab")):
        volume = names.find(spec)
        if volume is not None and point.startswith("/"):
            found.setdefault(volume.device, point[:MOST_NAME])
    return found
