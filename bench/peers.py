"""The other programs, each doing the job the way its manual says for disk images.

Each keeps its copy in the same pool filesystem and ends with what it wrote on the disk (fsync).
Those here work on this machine alone: none has to cross a network or TLS, which we do. Those that
cross a network are in :mod:`bench.networked`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from bench.sample import Sample
from notfallserver.server.host.run import run
from notfallserver.wire.blocks import BLOCK

LIMIT = 1800.0


class Peer(Protocol):
    """``full`` copies into nothing; ``again`` brings the copy up to date."""

    name: str

    def prepare(self) -> None:
        """Before a full copy, not measured."""

    def full(self) -> None: ...

    def again(self) -> None: ...


def empty(directory: Path) -> None:
    """Make the directory anew, with nothing in it."""
    run(["rm", "-rf", directory], timeout=300)
    directory.mkdir(parents=True)


class Dd:
    """``dd`` of the used blocks: what the disk and the pool allow, without knowing anything."""

    name = "dd"
    gap = 16
    """Gaps of up to 1 MiB are copied as well: cheaper for it than to be started once more."""

    def __init__(self, sample: Sample, directory: Path) -> None:
        self._sample = sample
        self._directory = directory
        self._target = directory / "disk.raw"
        self._script = ""

    def prepare(self) -> None:
        empty(self._directory)
        joined: list[list[int]] = []
        for first, count in self._sample.used():
            if joined and first - sum(joined[-1]) <= self.gap:
                joined[-1][1] = first + count - joined[-1][0]
            else:
                joined.append([first, count])
        size = self._sample.image.stat().st_size
        lines = [f"truncate -s {size} {self._target}"]
        for first, count in joined:
            at, length = first * BLOCK, min(count * BLOCK, size - first * BLOCK)
            lines.append(
                f"dd if={self._sample.device} of={self._target} bs=4M status=none conv=notrunc "
                f"iflag=direct,skip_bytes,count_bytes,fullblock oflag=seek_bytes "
                f"skip={at} seek={at} count={length}"
            )
        self._script = "set -e\n" + "\n".join([*lines, f"sync {self._target}"]) + "\n"

    def full(self) -> None:
        run(["sh"], text_in=self._script, timeout=LIMIT)

    def again(self) -> None:
        self.full()


class IntoFile:
    """What copies the image below the device into a file of its own."""

    def __init__(self, sample: Sample, directory: Path) -> None:
        self._source = sample.image
        self._directory = directory
        self._target = directory / "disk.raw"

    def prepare(self) -> None:
        empty(self._directory)


class Rsync(IntoFile):
    """``rsync --inplace`` of the image below the device into a file."""

    name = "rsync"

    def full(self) -> None:
        self._copy("--sparse")

    def again(self) -> None:
        self._copy("--no-whole-file", f"--block-size={BLOCK}")

    def _copy(self, *how: str) -> None:
        run(
            ["rsync", "--inplace", "--ignore-times", "--fsync", *how, self._source, self._target],
            timeout=LIMIT,
        )


class Borg:
    """``borg create`` of the image, without encryption, compression as it comes (lz4).

    Chunks of fixed size, as its manual advises for images of disks: so it also skips holes.
    """

    name = "borg"

    def __init__(self, sample: Sample, directory: Path) -> None:
        self._source = sample.image
        self._directory = directory
        self._count = 0

    def prepare(self) -> None:
        empty(self._directory)
        self._borg("init", "--encryption=none", str(self._directory / "repository"))

    def full(self) -> None:
        self.again()

    def again(self) -> None:
        self._count += 1
        archive = f"{self._directory / 'repository'}::{self._count}"
        chunks = ["--sparse", "--chunker-params=fixed,4194304"]
        self._borg("create", "--files-cache=disabled", *chunks, archive, str(self._source))

    def _borg(self, *arguments: str) -> None:
        base = str(self._directory / "home")
        run(["borg", *arguments], timeout=LIMIT, environment={"BORG_BASE_DIR": base})


class Restic:
    """``restic backup`` of the image (always encrypted and compressed: it has no other way)."""

    name = "restic"

    def __init__(self, sample: Sample, directory: Path) -> None:
        self._source = sample.image
        self._directory = directory

    def prepare(self) -> None:
        empty(self._directory)
        self._restic("init")

    def full(self) -> None:
        self.again()

    def again(self) -> None:
        self._restic("backup", "--quiet", str(self._source))
        os.sync()  # it does not sync all of its files itself

    def _restic(self, *arguments: str) -> None:
        environment = {
            "RESTIC_REPOSITORY": str(self._directory / "repository"),
            "RESTIC_PASSWORD": "bench",
            "RESTIC_CACHE_DIR": str(self._directory / "cache"),
        }
        run(["restic", *arguments], timeout=LIMIT, environment=environment)
