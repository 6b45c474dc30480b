"""From names that depend on the hardware to names that don't.

``/dev/sda2`` in a guest's files means "partition 2 of the disk that was called sda on the original
machine"; that disk is found by its place in the original's list, which is the order of the image's
disks. Pure.
"""

from __future__ import annotations

import re
from typing import Dict, Iterable, Optional, Tuple

from notfallserver.guest.facts import Volume
from notfallserver.wire.facts import Machine

_HARDWARE_NAME = re.compile(
    r"/dev/((sd|hd|vd|xvd)[a-z]+\d*|(nvme\d+n\d+|mmcblk\d+)(p\d+)?|disk/by-(id|path)/\S+)$"
)


class DeviceNames:
    """The original machine's device names, told as UUIDs of the image's volumes."""

    def __init__(self, volumes: Iterable[Volume], original: Machine) -> None:
        self._volumes: Tuple[Volume, ...] = tuple(volumes)
        self._places: Dict[Tuple[int, int], Volume] = {
            (one.disk, one.partition): one for one in self._volumes if one.disk >= 0
        }
        self._disks = {disk.name: at for at, disk in enumerate(original.disks)}
        self._serials = {
            re.sub(r"\W+", "_", disk.serial): at
            for at, disk in enumerate(original.disks)
            if len(disk.serial) >= 4
        }

    def is_hardware_name(self, spec: str) -> bool:
        return _HARDWARE_NAME.match(spec) is not None

    def find(self, spec: str) -> Optional[Volume]:
        """The volume that ``spec`` (as in fstab) means, whatever way it is named."""
        kind, _, value = spec.partition("=")
        value = value.strip('"')
        by = {"UUID": "uuid", "LABEL": "label", "PARTUUID": "part_uuid"}.get(kind)
        if by and value:
            same = (v for v in self._volumes if getattr(v, by).lower() == value.lower())
            return next(same, None)
        for prefix, field in (("uuid", "uuid"), ("label", "label"), ("partuuid", "part_uuid")):
            lead = f"/dev/disk/by-{prefix}/"
            if spec.startswith(lead):
                wanted = spec[len(lead) :].lower()
                same = (v for v in self._volumes if getattr(v, field).lower() == wanted)
                return next(same, None)
        place = self._place(spec)
        if place is not None:
            return self._places.get(place)
        return next((v for v in self._volumes if v.device == _mapper_name(spec)), None)

    def stable(self, spec: str) -> Optional[str]:
        """``UUID=…`` for a name that depends on the hardware; None where there is nothing to do."""
        if not self.is_hardware_name(spec):
            return None
        volume = self.find(spec)
        return f"UUID={volume.uuid}" if volume and volume.uuid else None

    def _place(self, spec: str) -> Optional[Tuple[int, int]]:
        if spec.startswith("/dev/disk/by-id/"):
            name, _, part = spec[len("/dev/disk/by-id/") :].partition("-part")
            told = re.sub(r"\W+", "_", name)
            for serial, at in self._serials.items():
                if told.endswith(serial):
                    return at, int(part) if part.isdigit() else 0
            return None
        name = spec[len("/dev/") :] if spec.startswith("/dev/") else spec
        if name in self._disks:
            return self._disks[name], 0
        found = re.fullmatch(r"(.*\d)p(\d+)|(.*\D)(\d+)", name)
        if not found:
            return None
        disk, number = (found.group(1) or found.group(3)), (found.group(2) or found.group(4))
        if disk not in self._disks:
            return None
        return self._disks[disk], int(number)


def _mapper_name(spec: str) -> str:
    """``/dev/vg/lv`` as ``/dev/mapper/vg-lv``, dashes doubled as device-mapper does."""
    parts = spec.split("/")
    if len(parts) == 4 and parts[1] == "dev" and parts[2] not in ("mapper", "disk"):
        return "/dev/mapper/" + "-".join(one.replace("-", "--") for one in parts[2:])
    return spec
