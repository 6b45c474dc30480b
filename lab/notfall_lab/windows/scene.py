"""A disk with a real NTFS volume, its snapshot, and VSS, as the agent on Windows would see them."""

from __future__ import annotations

import os
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Sequence, Tuple

import notfall_lab.windows.structures as w
from notfall_lab.windows.machine import MIB, Device, Machine, disk, of_bytes, volume
from notfall_lab.windows.vss import Vss
from notfallserver.agent.applications.application import Applied
from notfallserver.agent.disks.windows import see_disks
from notfallserver.agent.windows import answers
from notfallserver.agent.windows.moment import Moment, hold_moment
from notfallserver.agent.windows.snapshots import take_snapshots
from notfallserver.agent.windows.survey import see_volumes
from notfallserver.agent.windows.vss import SnapshotSet
from notfallserver.wire.blocks import BLOCK

TOOLS = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
C, D, E = ("\\\\?\\Volume{c}\\", "\\\\?\\Volume{d}\\", "\\\\?\\Volume{e}\\")
SHADOW = r"\\?\GLOBALROOT\Device\HarddiskVolumeShadowCopy7"
START = MIB + 512 * 3  # not where a block begins
SIZE = 40 * MIB + 512 * 7
DISK_SIZE = 64 * MIB + 512


def tool(*arguments: object) -> bytes:
    words = [str(one) for one in arguments]
    return subprocess.run(words, check=True, capture_output=True, env=TOOLS, timeout=60).stdout


@dataclass(frozen=True)
class Base:
    """An NTFS volume with files, and where its paging file lies."""

    still: bytes
    contents: Dict[str, bytes]
    paging: Tuple[int, int]


def make_base(place: Path) -> Base:
    """Made in an empty directory."""
    image = place / "c.img"
    with image.open("wb") as stream:
        stream.truncate(SIZE)
    tool("mkntfs", "-F", "-q", "-f", "-p", 0, image)
    contents: Dict[str, bytes] = {}
    for name, size in (("ledger", 3_000_000), ("small", 100), ("pagefile.sys", 5_000_000)):
        contents[name] = os.urandom(size)
        (place / name).write_bytes(contents[name])
        tool("ntfscp", "-f", image, place / name, name)
    still = bytearray(image.read_bytes())
    paging = still.index(contents["pagefile.sys"][:4096])
    name_at = still.index("pagefile.sys".encode("utf-16-le"), still.index(b"FILE0"))
    record = still.rindex(b"FILE", 0, name_at)
    at = still.index((0x10).to_bytes(4, "little"), record)
    still[at + 24 + 32 : at + 24 + 36] = struct.pack("<L", 6)  # hidden, system
    return Base(bytes(still), contents, (START + paging, -(-5_000_000 // 4096) * 4096))


class Scene:
    """``live`` is what the volume has by now; ``still`` what it had at the snapshot's moment."""

    def __init__(self, base: Base, bitlocker: bool = False) -> None:
        self.still, self.contents, self.paging = base.still, base.contents, base.paging
        self.live = os.urandom(MIB) + self.still[MIB : -MIB - 512] + os.urandom(MIB + 512)
        head = os.urandom(START)
        tail = os.urandom(DISK_SIZE - START - SIZE)
        on_disk = bytearray(self.live)
        on_disk[:512] = self.still[:512]
        if bitlocker:
            on_disk[3:11] = b"-FVE-FS-"
        self.raw = head + bytes(on_disk) + tail
        self.machine = Machine()
        table = w.mbr_layout(0xCAFE, [(7, START, SIZE), *[(0, 0, 0)] * 3])
        self.machine.devices[0] = disk(of_bytes(self.raw), DISK_SIZE, table)
        self.machine.mounted[C] = volume(
            of_bytes(self.still[:512] + self.live[512:]), [(0, START, SIZE)], "NTFS", "", ("C:\\",)
        )
        self.add_shadow(SHADOW, self.still)
        self.windows = Vss()

    def add_shadow(self, path: str, content: bytes) -> None:
        size = struct.pack("<q", len(content))
        codes = {answers.DISK_GET_LENGTH_INFO: size}
        self.machine.other[path] = Device(of_bytes(content), len(content), codes)

    def take(self, volumes: Sequence[str]) -> Tuple[SnapshotSet, Tuple[Applied, ...]]:
        def make(context: int) -> SnapshotSet:
            windows = self.windows
            return SnapshotSet(windows.components(), windows.freeing(), lambda: None, context)

        return take_snapshots(volumes, make, lambda _seconds: None)

    def image_of(self, moment: Moment) -> bytes:
        """As the server would have it: what is used, and holes."""
        made = bytearray(DISK_SIZE)
        for first, count in moment.used[0]:
            for number in range(first, first + count):
                at = number * BLOCK
                with memoryview(made) as view, view[at : min(at + BLOCK, DISK_SIZE)] as part:
                    moment.disks[0].read_into(part, at)
        return bytes(made)

    def hold(self) -> Tuple[Moment, bytes]:
        disks, volumes = see_disks(self.machine), see_volumes(self.machine)
        with hold_moment(self.machine, disks, volumes, self.take) as moment:
            image = self.image_of(moment)
        assert not any(one.open for one in self.machine.handles)
        assert self.windows.released == self.windows.names.count("SetContext")
        return moment, image
