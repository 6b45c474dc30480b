"""Repairing damaged blocks of a version from wherever the pool holds the same content.

What a block must hold is told by its hash, so every copy will do: in other versions, an unfinished
one, the prepared image, the stand-in. A version is written to only here, only where it is damaged,
and only with content that fits the hash; then the block is read back from the disk.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from notfallserver.server.host.clone import punch_hole
from notfallserver.server.host.direct import DirectReader
from notfallserver.server.pool.health import joined
from notfallserver.server.pool.index import Index
from notfallserver.server.pool.room import pool_may_be_full
from notfallserver.server.pool.scrub import wrong_blocks
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.pool.version import DiskImage, Version
from notfallserver.wire.blocks import (
    BLOCK,
    HASH,
    HOLE,
    Run,
    block_count,
    block_length,
    hash_block,
    runs_of,
    split_runs,
)

_AT_ONCE = 64


@dataclass
class Repair:
    """What became of damaged blocks: how many are right now, which are left, whence they came."""

    repaired: int = 0
    left: list[Run] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)


def repair_size(version: Version, image: DiskImage) -> None:
    """Make an image that is missing, cut or too long as long as it must be; what's new is holes."""
    handle = os.open(version.raw(image.index), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(handle).st_size != image.size:
            os.ftruncate(handle, image.size)
            os.fsync(handle)
    finally:
        os.close(handle)


def repair_blocks(
    store: PrimaryStore, version: Version, image: DiskImage, runs: Sequence[Run]
) -> Repair:
    """Repair what can be; blocks that turn out to be right count as repaired."""
    done = Repair()
    left: list[Run] = []
    with ExitStack() as stack:
        stack.enter_context(store.writable(version))
        patient = _Patient(stack, version, image)
        for first, count in split_runs(joined(runs), _AT_ONCE):
            numbers = patient.still_wrong(range(first, first + count))
            for name, source in _sources(store, version) if numbers else ():
                numbers = _treat(patient, numbers, source, name, done.sources)
                if not numbers:
                    break
            done.repaired += count - len(numbers)
            left += runs_of(numbers)
    done.left = joined(left)
    return done


class _Patient:
    """A disk of a version, open for repair."""

    def __init__(self, stack: ExitStack, version: Version, image: DiskImage) -> None:
        path = version.raw(image.index)
        self.size = image.size
        self.index = stack.enter_context(Index(version.idx(image.index)))
        self.raw = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        stack.callback(os.close, self.raw)
        self.reader = stack.enter_context(DirectReader(path))

    def still_wrong(self, numbers: range) -> list[int]:
        """The wrong ones; those that must be zero are made so at once, for that needs no source."""
        wrong = self._wrong(numbers)
        zeros = {number: b"" for number in wrong if self.index[number] == HOLE}
        if zeros:
            self.write(zeros)
            wrong = self._wrong(wrong)
        return wrong

    def _wrong(self, numbers: Sequence[int]) -> list[int]:
        alone = (range(number, number + 1) for number in numbers)
        return [
            bad for one in alone for bad in wrong_blocks(self.index, self.reader, one, self.size)
        ]

    def write(self, contents: dict[int, bytes]) -> list[int]:
        """Write blocks and read them back; returns those that are still wrong.

        What doesn't hold where it lies gets a new place on the device in a second try.
        """
        wrong = list(contents)
        for elsewhere in (False, True):
            with pool_may_be_full():
                for number in wrong:
                    if elsewhere or not contents[number]:
                        length = block_length(number, self.size)
                        punch_hole(self.raw, number * BLOCK, length)
                    self._put(number, contents[number])
                try:
                    os.fsync(self.raw)
                except OSError as error:
                    if error.errno != errno.EIO:
                        raise
            wrong = self._wrong(wrong)
            if not wrong:
                break
        return wrong

    def _put(self, number: int, content: bytes) -> None:
        done = 0
        while done < len(content):
            done += os.pwrite(self.raw, content[done:], number * BLOCK + done)


def _treat(
    patient: _Patient, numbers: list[int], source: _Source, name: str, used: set[str]
) -> list[int]:
    """Repair what ``source`` holds; returns what is left."""
    try:
        contents = source.contents(patient, numbers)
    except (FileNotFoundError, ValueError):  # removed meanwhile, or its index is gone
        return numbers
    if not contents:
        return numbers
    wrong = patient.write(contents)
    if len(wrong) < len(contents):
        used.add(name)
    return sorted({*numbers} - {*contents} | {*wrong})


@dataclass(frozen=True)
class _Source:
    """A disk that may hold the same block in the same place; ``idx`` where it has an index."""

    raw: Path
    idx: Path | None = None

    def contents(self, patient: _Patient, numbers: Sequence[int]) -> dict[int, bytes]:
        """Those of the blocks that it holds, proved by their hash."""
        found: dict[int, bytes] = {}
        with ExitStack() as stack:
            index = stack.enter_context(Index(self.idx)) if self.idx else None
            reader: DirectReader | None = None
            for number in numbers:
                digest = patient.index[number]
                if index and (number >= index.blocks or index[number] != digest):
                    continue
                if reader is None:
                    reader = stack.enter_context(DirectReader(self.raw))
                length = block_length(number, patient.size)
                try:
                    view = reader.read(number * BLOCK, length)
                except OSError as error:
                    if error.errno != errno.EIO:
                        raise
                    continue
                if len(view) == length and hash_block(view) == digest:
                    found[number] = bytes(view)
        return found


def _sources(store: PrimaryStore, patient: Version) -> Iterator[tuple[str, _Source]]:
    """Where copies may be, each with its name; the likeliest first."""
    for version in store.versions():
        for disk in version.manifest.disks:
            if version.stamp != patient.stamp and _whole(version, disk):
                source = _Source(version.raw(disk.index), version.idx(disk.index))
                yield f"version {version.stamp}", source
    for directory, name in (
        (store.paths.prepared / patient.stamp, "prepared image"),
        (store.paths.standin, "stand-in"),
        (store.paths.incoming, "unfinished version"),
    ):
        for raw in sorted(directory.glob("disk*.raw")):
            yield name, _Source(raw)


def _whole(version: Version, disk: DiskImage) -> bool:
    """Whether its index can be opened. One that tells wrong does no harm: contents are proved."""
    try:
        return version.idx(disk.index).stat().st_size == block_count(disk.size) * HASH
    except FileNotFoundError:
        return False


def inherited_damage(
    version: Version, base: Version, blocks: Mapping[int, Sequence[Run]]
) -> dict[int, list[Run]]:
    """Which damaged ``blocks`` of its base a version took over: same hash, and wrong here too."""
    found: dict[int, list[Run]] = {}
    for disk in version.manifest.disks:
        runs = blocks.get(disk.index, ())
        if not runs or not base.idx(disk.index).exists():
            continue
        with (
            Index(version.idx(disk.index)) as here,
            Index(base.idx(disk.index)) as there,
            DirectReader(version.raw(disk.index)) as reader,
        ):
            most = min(here.blocks, there.blocks)
            numbers = (
                number
                for first, count in runs
                for number in range(first, min(first + count, most))
                if here[number] == there[number]
            )
            bad = [
                one
                for number in numbers
                for one in wrong_blocks(here, reader, range(number, number + 1), disk.size)
            ]
        if bad:
            found[disk.index] = runs_of(bad)
    return found
