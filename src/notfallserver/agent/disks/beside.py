"""What a machine has that is on none of its replicated disks: data elsewhere, licence keys.

Neither is copied; it is told, so that somebody knows before the worst day.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import FrozenSet, Iterable, List, Set

from notfallserver.agent.disks.mounts import Mount, current_mounts, leaves, members
from notfallserver.wire.facts import TEXT_LIMIT

MOST = 16
NETWORK = {
    *("nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "lustre", "beegfs", "afs", "9p"),
    *("virtiofs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph-fuse", "fuse.s3fs", "fuse.rclone"),
}
MEDIA = {"iso9660", "udf", "squashfs", "erofs"}
"""Nobody's data changes there."""
SYSTEM_PLACES = ("/proc", "/sys", "/dev", "/run", "/snap", "/var/lib/docker", "/var/lib/kubelet")
USB = Path("/sys/bus/usb/devices")
KEY_MAKERS = {
    "0529": "Aladdin/SafeNet HASP",
    "08e6": "Gemalto/Thales",
    "064f": "Wibu CodeMeter",
    "04b9": "SafeNet Sentinel",
    "0d7a": "MARX CryptoBox",
    "096e": "Feitian ROCKEY",
    "1bc0": "Senselock",
    "0403c580": "Eutron SmartKey",
    "1547": "SG-Lock",
    "0a89": "Guardant",
    "3689": "Unikey",
}
"""By vendor, or vendor and product, where a vendor makes other things as well."""


def outside_places(disks: Iterable[int]) -> List[str]:
    """Where filesystems are mounted that are not on the disks, each with its kind."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
        network = network_mounts(stream.read())
    protected = frozenset(disks)
    found = [*network]
    for mount in current_mounts():
        if mount.kind in MEDIA or _is_system(mount.place) or not mount.writable:
            continue
        if _all_leaves(mount, protected) - protected:
            found.append(f"{mount.place} ({mount.kind})")
    return [_told(one) for one in dict.fromkeys(found)][:MOST]


def _all_leaves(mount: Mount, protected: FrozenSet[int]) -> Set[int]:
    return {leaf for one in members(mount) for leaf in leaves(one, protected)}


def network_mounts(text: str) -> List[str]:
    """Of ``/proc/self/mountinfo``, what lies on other machines."""
    found = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, told = left.split(" "), right.split(" ")
        if len(fields) >= 6 and told[0] in NETWORK and not _is_system(fields[4]):
            found.append(f"{fields[4]} ({told[0]})")
    return found


def _is_system(place: str) -> bool:
    return any(place == one or place.startswith(one + "/") for one in SYSTEM_PLACES)


def licence_keys(devices: Path = USB) -> List[str]:
    """USB devices of makers of licence keys: software bound to one does not run without it."""
    found = []
    for device in sorted(devices.iterdir()) if devices.is_dir() else ():
        vendor, product = _text(device / "idVendor").lower(), _text(device / "idProduct").lower()
        maker = KEY_MAKERS.get(vendor) or KEY_MAKERS.get(vendor + product)
        if maker:
            name = _text(device / "product")
            found.append(_told(f"{maker}: {name}" if name else maker))
    return found[:MOST]


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _told(text: str) -> str:
    """As it can be sent: a name on a disk need not be UTF-8."""
    return os.fsencode(text).decode(errors="replace")[:TEXT_LIMIT]
