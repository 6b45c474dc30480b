"""Two disks, one with ext4 and one with XFS, and files for each known way to change them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from agent_receiver import Receiver, command, loop_device, mounted, partition
from holes import EVERYWHERE, ON_EXT4, ON_XFS, new_file
from source_machine import MIB, NEW_EXT4

from notfallserver.agent.disks.direct import DirectDisk
from notfallserver.agent.disks.linux import protected_disks
from notfallserver.agent.disks.mounts import current_mounts
from notfallserver.agent.disks.used import Census
from notfallserver.wire.blocks import BLOCK

QUIET_MIB = 64
"""In each filesystem, in files that nobody touches."""


class TwoFilesystems:
    """A disk with ext4 and one with XFS."""

    def __init__(self, root: Path, cleanup: ExitStack) -> None:
        self.root = root
        self.disks: list[str] = []
        self.places: list[Path] = []
        for name, make in (("ext4", NEW_EXT4), ("xfs", ("-q", "-m", "rmapbt=1"))):
            image = root / f"{name}.img"
            partition(image, 330 * MIB, "label: gpt\nstart=1M, size=328M, type=linux\n")
            device = cleanup.enter_context(loop_device(image))
            command(f"mkfs.{name}", *make, f"{device}p1")
            self.disks.append(device)
            self.places.append(cleanup.enter_context(mounted(f"{device}p1", root / name)))

    def fill(self) -> None:
        for place in self.places:
            for number in range(8):
                new_file(place / f"quiet{number}", QUIET_MIB // 8 * MIB)


def differing(receiver: Receiver, two: TwoFilesystems, copies: list[Path]) -> list[tuple[int, int]]:
    """Disk and block where the newest version is not as it was frozen, as far as it is in use."""
    disks = [DirectDisk(one) for one in protected_disks(two.disks)]
    census = Census(disks, current_mounts())
    free = census.free_space()
    census.close()
    found = []
    for number, disk in enumerate(disks):
        disk.close()
        unused = bytearray(disk.size // 512)
        for start, length in free[number]:
            unused[start // 512 : (start + length) // 512] = b"\1" * (length // 512)
        with receiver.image(number).open("rb") as image, copies[number].open("rb") as copy:
            for block in range(disk.disk.blocks):
                then, now = image.read(BLOCK), copy.read(BLOCK)
                first = block * BLOCK // 512
                if now != then and any(
                    now[at * 512 : at * 512 + 512] != then[at * 512 : at * 512 + 512]
                    and not unused[first + at]
                    for at in range(len(now) // 512)
                ):
                    found.append((number, block))
    return found


def ready(two: TwoFilesystems) -> list[Callable[[], object]]:
    """Each hole's files are there; what is returned changes them."""
    kinds = zip(two.places, (ON_EXT4, ON_XFS), strict=True)
    return [hole(place) for place, own in kinds for hole in (*EVERYWHERE, *own)]
