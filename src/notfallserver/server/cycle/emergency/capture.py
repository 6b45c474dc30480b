"""Capturing a running stand-in as a version: pause, reflink, resume.

The pause holds only the clones, so it is short whatever the image's size. What changed since the
last version is read from the extent maps; only those blocks are hashed, after the resume.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from notfallserver.server.host.clone import clone_file, differing_blocks
from notfallserver.server.host.files import discard_tree, sync_path
from notfallserver.server.pool import layout
from notfallserver.server.pool.health import joined
from notfallserver.server.pool.incoming import seal_directory, utc_now
from notfallserver.server.pool.index import Index, fit_index, hash_index, make_index
from notfallserver.server.pool.room import pool_may_be_full
from notfallserver.server.pool.scrub import may_build_on
from notfallserver.server.pool.store import Clones, PrimaryStore
from notfallserver.server.pool.version import DiskImage, Manifest, Version
from notfallserver.wire.blocks import BLOCK, Run, block_count, block_length, hash_block

log = logging.getLogger(__name__)

READ_BLOCKS = 64


@dataclass(frozen=True)
class Capture:
    """A version made of the stand-in; ``pause_ms`` is how long it stood still."""

    version: Version
    pause_ms: float
    changed: int  # bytes in blocks that differ from the base


def capture(
    store: PrimaryStore,
    standin: Clones,
    still: AbstractContextManager[object],
    consistency: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Capture:
    """Make a version of the stand-in's disks; within ``still`` the stand-in does not write.

    What fails leaves nothing behind: clones that nobody needs would keep space occupied.
    """
    try:
        with pool_may_be_full():
            return _capture(store, standin, still, consistency, progress)
    except BaseException:
        discard_tree(store.paths.incoming)
        raise


def _capture(
    store: PrimaryStore,
    standin: Clones,
    still: AbstractContextManager[object],
    consistency: str,
    progress: Callable[[int, int], None],
) -> Capture:
    base = store.standin_base(standin)
    damage = store.health.of(base.stamp).blocks
    directory = store.paths.incoming
    discard_tree(directory)
    directory.mkdir()
    started = utc_now()
    began = time.monotonic()
    with still:
        for disk in standin.disks:
            clone_file(disk, directory / disk.name)
        stamp = store.fresh_stamp()
    pause_ms = (time.monotonic() - began) * 1000
    images, changed = [], 0
    for index, disk in enumerate(standin.disks):
        raw = directory / disk.name
        image, differing = _index_disk(base, index, raw, directory, progress, damage)
        images.append(image)
        changed += differing
    version = seal_directory(
        store.paths,
        Manifest(
            primary=store.uuid,
            name=base.manifest.name,
            stamp=stamp,
            kind="capture",
            consistency=consistency,
            base=base.stamp,
            machine=base.manifest.machine,
            disks=tuple(images),
            started_at=started,
            sealed_at=utc_now(),
            freeze_ms=pause_ms,
            passes=1,
            bytes_read=changed,
            bytes_changed=changed,
            read_all=False,
        ),
    )
    return Capture(version, pause_ms, changed)


def _index_disk(
    base: Version,
    index: int,
    raw: Path,
    directory: Path,
    progress: Callable[[int, int], None],
    damage: Mapping[int, Sequence[Run]],
) -> tuple[DiskImage, int]:
    """Index a clone: the base's index, and new hashes where the clone may differ.

    Where the base is known to be damaged, what the stand-in holds is taken as it is: that is what
    its guest has worked with.
    """
    size = raw.stat().st_size
    idx = directory / layout.idx_name(index)
    known = next((one for one in base.manifest.disks if one.index == index), None)
    if known is not None and may_build_on(base, known):
        clone_file(base.idx(index), idx)
        fit_index(idx, size)
        runs = differing_blocks(base.raw(index), raw, size)
        runs = joined([*runs, *_readable(raw, size, damage.get(index, ()))])
    else:
        make_index(idx, size)
        runs = [(0, -(-size // BLOCK))]
    total = sum(count for _, count in runs) * BLOCK
    done = changed = 0
    with Index(idx, write=True) as opened, raw.open("rb", buffering=0) as image:
        for first, count in runs:
            for start in range(first, first + count, READ_BLOCKS):
                most = min(READ_BLOCKS, first + count - start)
                image.seek(start * BLOCK)
                view = memoryview(image.read(most * BLOCK))
                for number in range(start, start + most):
                    at = (number - start) * BLOCK
                    digest = hash_block(view[at : at + block_length(number, size)])
                    if opened[number] != digest:
                        opened[number] = digest
                        changed += BLOCK
                done += most * BLOCK
                progress(done, total)
        opened.sync()
        used = opened.used()
    sync_path(raw)
    return DiskImage(index, size, used, hash_index(idx)), changed


def _readable(raw: Path, size: int, runs: Sequence[Run]) -> list[Run]:
    """Those damaged blocks that the disk still gives back in some way."""
    found = []
    with raw.open("rb", buffering=0) as image:
        for first, count in runs:
            for number in range(first, min(first + count, block_count(size))):
                try:
                    os.pread(image.fileno(), BLOCK, number * BLOCK)
                except OSError as error:
                    if error.errno != errno.EIO:
                        raise
                    continue
                found.append((number, 1))
    return found
