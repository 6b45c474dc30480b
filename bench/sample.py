"""The primary's disk: a partitioned image on a loop device, its ext4 mounted and in use.

The content is this machine's own: programs, libraries, sources, text, and a share of bytes that
can't be compressed. The same seed gives the same choice.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from notfallserver.agent.disks.direct import DirectDisk
from notfallserver.agent.disks.linux import protected_disks
from notfallserver.agent.disks.mounts import current_mounts
from notfallserver.agent.disks.used import Census, used_runs
from notfallserver.server.host.run import run
from notfallserver.wire.blocks import BLOCK, Run, block_length

SIZE = 4 << 30
COPIED = 2600 << 20
INCOMPRESSIBLE = 450 << 20
SOURCES = (Path("/usr/lib"), Path("/usr/share"), Path("/usr/bin"), Path("/usr/local"))
SEED = 20

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
        found: Hashes = {}
        disk = DirectDisk(protected_disks([str(self.device)])[0])
        try:
            for first, count in self.used():
                for number in range(first, first + count):
                    content = disk.read(number * BLOCK, block_length(number, disk.size))
                    found[number] = blake2b(content, digest_size=16).digest()
        finally:
            disk.close()
        return found


class SampleDisk:
    """Makes the disk, and puts everything away at the end (and what a crash left)."""

    def __init__(
        self,
        directory: Path,
        size: int = SIZE,
        copied: int = COPIED,
        incompressible: int = INCOMPRESSIBLE,
    ) -> None:
        self._image = directory / "primary.img"
        self._tree = directory / "primary"
        self._size = size
        self._copied = copied
        self._incompressible = incompressible

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
        options = "lazy_itable_init=0,lazy_journal_init=0"
        run(["mkfs.ext4", "-q", "-L", "bench", "-E", options, part], timeout=120)
        self._tree.mkdir(exist_ok=True)
        run(["mount", "-o", "noatime", part, self._tree])
        _fill(self._tree, self._copied, self._incompressible)
        os.sync()
        return Sample(self._image, device, self._tree)

    def __exit__(self, *_: object) -> None:
        self._put_away()

    def _put_away(self) -> None:
        if self._tree.is_mount():
            run(["umount", self._tree], timeout=120)
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


def _fill(tree: Path, copied: int, incompressible: int) -> None:
    chosen, names = 0, []
    for path, size in _candidates():
        if chosen + size > copied:
            continue
        chosen += size
        names.append(str(path))
    listing = "\0".join(names)
    run(
        ["rsync", "-a", "--from0", "--files-from=-", "/", tree / "copied"],
        text_in=listing,
        timeout=900,
        ok=(0, 23, 24),  # a file that vanished or can't be read is one less
    )
    dice = random.Random(SEED)
    (tree / "packed").mkdir()
    for number in range(incompressible >> 20):
        (tree / "packed" / f"{number}.bin").write_bytes(dice.randbytes(1 << 20))


def _candidates() -> Iterator[tuple[Path, int]]:
    found = []
    for source in SOURCES:
        for folder, _, names in os.walk(source):
            for name in names:
                path = Path(folder, name)
                if not path.is_symlink() and path.is_file():
                    # A file takes whole pages on the disk.
                    found.append((path, -(-path.stat().st_size // 4096) * 4096))
    found.sort()
    random.Random(SEED).shuffle(found)
    yield from found
