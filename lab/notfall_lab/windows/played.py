"""A Windows machine with one disk, told of in a few words: its structures and VSS are played, the
content of its disk is read from where it lies."""

from __future__ import annotations

import json
import struct
import uuid
from dataclasses import asdict, dataclass
from typing import Dict, List, Sequence, Tuple

import notfall_lab.windows.structures as w
from notfall_lab.windows.machine import Device, Machine, Read, disk, volume
from notfall_lab.windows.vss import Vss
from notfallserver.agent.applications.application import Applied
from notfallserver.agent.windows import answers
from notfallserver.agent.windows.moment import Take
from notfallserver.agent.windows.snapshots import take_snapshots
from notfallserver.agent.windows.vss import SnapshotSet

ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
BASIC = "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"
CURRENT = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion"
CARDS = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e972-e325-11ce-bfc1-08002be10318}"
_BY_HAND, _LEASED = 1, 3
_CARD = "{0A1B2C3D-0001-4000-8000-00000000CA2D}"
_MEMORY = 0x7FF600001000
_SHADOW = r"\\?\GLOBALROOT\Device\HarddiskVolumeShadowCopy{}"


@dataclass(frozen=True)
class Part:
    """``kind``: a GPT's GUID, or an MBR's number; ``letter`` as C:\\, of a FAT none."""

    kind: str
    own: str
    start: int
    length: int
    filesystem: str
    letter: str


@dataclass(frozen=True)
class Played:
    """``identity``: of a GPT, or an MBR's signature; ``system``: name, version and build.

    ``address`` with prefix length; without a gateway it is leased.
    """

    size: int
    firmware: str
    identity: str
    parts: List[Part]
    hostname: str
    mac: str
    address: str
    gateway: str
    system: Tuple[str, str, str]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Played:
        told = json.loads(text)
        told["parts"] = [Part(**one) for one in told["parts"]]
        return cls(**{**told, "system": tuple(told["system"])})


class PlayedMachine(Machine):
    """``read``: of its disk, at any instant what is on it."""

    def __init__(self, told: Played, read: Read) -> None:
        super().__init__()
        self._name = told.hostname
        self._shadows: Dict[str, Device] = {}
        self.mode = 2 if told.firmware == "uefi" else 1
        self.devices[0] = disk(read, told.size, _layout(told), model="SAMSUNG SSD", bus=8)
        for number, part in enumerate(told.parts):
            own = _part_of(read, part)
            name = f"\\\\?\\Volume{{{uuid.UUID(int=number + 1)}}}\\"
            places = (part.letter,) if part.letter else ()
            extents = [(0, part.start, part.length)]
            self.mounted[name] = volume(own, extents, part.filesystem, "", places)
            length = {answers.DISK_GET_LENGTH_INFO: struct.pack("<q", part.length)}
            self._shadows[name] = Device(own, part.length, length)
        address, prefix = told.address.split("/")
        origin = _BY_HAND if told.gateway else _LEASED
        card = {
            "guid": _CARD,
            "name": "Ethernet",
            "description": "Intel(R) Ethernet Connection",
            "mac": told.mac,
            "kind": 6,
            "addresses": [(address, int(prefix), origin)],
            "gateways": [told.gateway] if told.gateway else [],
        }
        self.network = (w.adapters(_MEMORY, [card]), _MEMORY)
        product, version, build = told.system
        self.registry = {
            (CURRENT, "ProductName"): product,
            (CURRENT, "CurrentVersion"): version,
            (CURRENT, "CurrentBuildNumber"): build,
            (f"{CARDS}\\0001", "NetCfgInstanceId"): _CARD,
            (f"{CARDS}\\0001", "DeviceInstanceID"): r"PCI\VEN_8086&DEV_1521\3&1",
            (f"{CARDS}\\0001", "Characteristics"): 0x84,
            (r"HARDWARE\DEVICEMAP\Scsi\Scsi Port 0", "Driver"): "iaStorA",
        }

    def hostname(self) -> str:
        return self._name

    def taker(self) -> Take:
        """Its VSS: a snapshot is what a volume holds while it is read."""
        vss = Vss()

        def take(volumes: Sequence[str]) -> Tuple[SnapshotSet, Tuple[Applied, ...]]:
            for number, name in enumerate(volumes):
                self.other[_SHADOW.format(number + 7)] = self._shadows[name]

            def make(context: int) -> SnapshotSet:
                return SnapshotSet(vss.components(), vss.freeing(), lambda: None, context)

            return take_snapshots(volumes, make, lambda _seconds: None)

        return take


def _part_of(read: Read, part: Part) -> Read:
    return lambda at, length: read(part.start + at, max(0, min(length, part.length - at)))


def _layout(told: Played) -> bytes:
    if told.firmware == "uefi":
        entries = [(one.kind, one.own, one.start, one.length, "") for one in told.parts]
        return w.gpt_layout(told.identity, entries)
    used = [(int(one.kind), one.start, one.length) for one in told.parts]
    return w.mbr_layout(int(told.identity, 16), [*used, *[(0, 0, 0)] * (4 - len(used))])
