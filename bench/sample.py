"""The primary's disk: a partitioned image on a loop device, its filesystem mounted and in use."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from bench.filling import Filling, fill
from notfallserver.agent.disks.direct import DirectDisk
from notfallserver.agent.disks.linux import protected_disks
from notfallserver.agent.disks.mounts import current_mounts
from notfallserver.agent.disks.used import Census, used_runs
from notfallserver.server.host.run import run
from notfallserver.wire.blocks import BLOCK, Run

MAKE = {
    "ext4": ["-q", "-L", "bench", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["-q", "-L", "bench"],
}
"""How each filesystem is made: so that none of it is left to be written later."""

AT_ONCE = 16
"""Blocks in one read: 1 MiB."""

Hashes = dict[int, bytes]
"""Hash of each used block."""


@dataclass(frozen=True)
class Sample:
    """The disk as it is seen from outside: ``device`` is /dev/loopN, ``image`` the file below."""

    image: Path
    device: Path
    tree: Path

    def used(self) -> Sequence[Run]:
        """The blocks in use now, as the agent counts them: the same for everybody."""
        disks = protected_disks([str(self.device)])
        opened = [DirectDisk(one) for one in disks]
        census = Census(opened, current_mounts())
        try:
            return used_runs(disks, census.free_space())[0]
        finally:
            census.close()
            for one in opened:
                one.close()

    def hashes(self) -> Hashes:
        """What the disk holds now, read apart from all tools that are measured."""
        os.sync()
        return {
            number: blake2b(content, digest_size=16).digest()
            for number, content in self._read(self.used())
        }

    def contents(self, numbers: Sequence[int]) -> Iterator[memoryview]:
        """These blocks as they are now."""
        for _, content in self._read([(number, 1) for number in numbers]):
            yield content

    def _read(self, runs: Sequence[Run]) -> Iterator[tuple[int, memoryview]]:
        disk = DirectDisk(protected_disks([str(self.device)])[0])
        try:
            for first, count in runs:
                for start in range(first, first + count, AT_ONCE):
                    step = min(AT_ONCE, first + count - start)
                    length = min(step * BLOCK, disk.size - start * BLOCK)
                    read = memoryview(disk.read(start * BLOCK, length))
                    for place in range(step):
                        yield start + place, read[place * BLOCK : (place + 1) * BLOCK]
        finally:
            disk.close()


class SampleDisk:
    """Makes the disk, and puts everything away at the end (and what a crash left)."""

    def __init__(
        self, directory: Path, size: int, filling: Filling, filesystem: str = "ext4"
    ) -> None:
        self._image = directory / "primary.img"
        self._tree = directory / "primary"
        self._size = size
        self._filling = filling
        self._filesystem = filesystem

    def __enter__(self) -> Sample:
        self._put_away()
        try:
            return self._make()
        except BaseException:
            self._put_away()
            raise

    def _make(self) -> Sample:
        self._image.parent.mkdir(parents=True, exist_ok=True)
        with self._image.open("wb") as stream:
            stream.truncate(self._size)
        run(["sfdisk", "-q", self._image], text_in="label: dos\nstart=1MiB, type=83\n")
        # Direct I/O: the image is not cached a second time below the device.
        made = run(["losetup", "-P", "--direct-io=on", "-f", "--show", self._image])
        device = Path(made.out.strip())
        run(["partx", "-u", device])
        part = Path(f"{device}p1")
        _wait_for(part)
        run([f"mkfs.{self._filesystem}", *MAKE[self._filesystem], part], timeout=300)
        self._tree.mkdir(exist_ok=True)
        run(["mount", "-o", "noatime", part, self._tree])
        fill(self._tree, self._filling)
        os.sync()
        return Sample(self._image, device, self._tree)

    def __exit__(self, *_: object) -> None:
        self._put_away()

    def _put_away(self) -> None:
        if self._tree.is_mount():
            run(["umount", self._tree], timeout=300)
        if self._image.exists():
            for device in run(["losetup", "-n", "-O", "NAME", "-j", self._image]).out.split():
                run(["losetup", "-d", device])
            self._image.unlink()


def _wait_for(node: Path) -> None:
    """udev makes the nodes on some machines, the kernel alone on others."""
    until = time.monotonic() + 10
    while not node.exists():
        if time.monotonic() > until:
            raise RuntimeError(f"{node} did not appear")
        time.sleep(0.05)
