"""A version put together again from what the engine brought, and let into the pool only when it is
right: each index fits the manifest, each block fits its index.

Where the pool holds a version of the same disks, only stretches that differ are fetched; the rest
shares its blocks with that version. The order is that of any version: contents, index and manifest
are on the disk before the directory gets its name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from notfallserver.server.host.clone import clone_file, copy_range, punch_hole
from notfallserver.server.host.files import (
    discard_tree,
    read_json,
    rename_durably,
    replace_file,
    sync_path,
)
from notfallserver.server.offload.segments import (
    DESCRIPTION,
    GROUP,
    INDEX,
    STRETCH,
    Stretch,
    group_path,
    read_description,
    stretches_of,
)
from notfallserver.server.pool import layout
from notfallserver.server.pool.index import Index, hash_index, make_index
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.pool.version import DiskImage, Manifest, Version, read_version
from notfallserver.wire.blocks import BLOCK, HASH, HOLE, block_count, hash_block
from notfallserver.wire.errors import NotfallError

Fetch = Callable[[Sequence[str], Path, int], None]
"""Brings these paths of the off-loaded version into a folder; told the bytes to come."""
Tell = Callable[[str, int, int], None]
"""Phase, bytes done, bytes in all; raises when it shall end."""
MOST_NAMED = 400
"""More single segments than that are not named: the whole disk is fetched."""
FIRST = (f"/{DESCRIPTION}", f"/{layout.MANIFEST}", INDEX)
"""What tells of all the rest; small."""


@dataclass(frozen=True)
class _Disk:
    image: DiskImage
    raw: Path
    idx: Path


def damaged(why: str) -> NotfallError:
    return NotfallError(
        "offload-damaged",
        f"What lies at the place is not what was carried there: {why}.",
        "Take another version or another place. Check this one: notfall offload check PLACE",
        status=409,
    )


def bring_version(
    store: PrimaryStore, primary: str, stamp: str, fetch: Fetch, tell: Tell
) -> Version:
    """Bring version ``stamp`` of ``primary`` into the pool; one that is there already is it."""
    layout.check_stamp(stamp)
    final = store.paths.versions / stamp
    if (final / layout.MANIFEST).exists():
        return read_version(final)
    work = store.paths.work / f"restore-{stamp}"
    discard_tree(work)
    got, made = work / "got", work / "version"
    made.mkdir(parents=True)
    try:
        manifest = read_manifest(got, primary, stamp, fetch)
        disks = [_Disk(one, *_names(made, one.index)) for one in manifest.disks]
        for disk in disks:
            make_index_of(got, disk.image, disk.idx)
        base = store.best()
        try:
            _fill(disks, base, got, fetch, tell)
        except NotfallError as error:
            if base is None or error.code != "offload-damaged":
                raise
            # Perhaps it is the pool's own version that isn't right: all anew, from the place.
            _fill(disks, None, got, fetch, tell)
        for disk in disks:
            sync_path(disk.raw)
            sync_path(disk.idx)
        replace_file(made / layout.MANIFEST, (got / layout.MANIFEST).read_bytes())
        rename_durably(made, final)
    finally:
        discard_tree(work)
    return read_version(final)


def bring_disk(
    work: Path, primary: str, stamp: str, disk: int, target: Path, fetch: Fetch, tell: Tell
) -> None:
    """One disk of an off-loaded version as a raw file; ``work`` lies on the target's filesystem."""
    discard_tree(work)
    got, made = work / "got", work / "version"
    made.mkdir(parents=True)
    try:
        manifest = read_manifest(got, primary, stamp, fetch)
        image = next((one for one in manifest.disks if one.index == disk), None)
        if image is None:
            raise NotfallError(
                "no-such-disk",
                f"Version {stamp} has disks 0 to {len(manifest.disks) - 1}.",
                "Name one of these.",
                status=404,
            )
        one = _Disk(image, *_names(made, disk))
        make_index_of(got, image, one.idx)
        _fill([one], None, got, fetch, tell)
        sync_path(one.raw)
        os.link(one.raw, target)  # refuses to replace anything
        sync_path(target.parent)
    except FileExistsError:
        raise NotfallError(
            "file-exists", f"{target} exists already.", "Name a new file.", status=409
        ) from None
    finally:
        discard_tree(work)


def read_manifest(got: Path, primary: str, stamp: str, fetch: Fetch) -> Manifest:
    """The manifest of what was off-loaded, with all indices beside it in ``got``."""
    got.mkdir(parents=True, exist_ok=True)
    fetch(FIRST, got, 0)
    try:
        read_description(got)
        manifest = Manifest.from_json(read_json(got / layout.MANIFEST))
    except (OSError, KeyError, TypeError) as error:
        raise damaged(f"its description can't be read ({error})") from None
    if (manifest.primary, manifest.stamp) != (primary, stamp):
        raise damaged(f"it is {manifest.stamp} of {manifest.name}")
    return manifest


def _names(folder: Path, disk: int) -> tuple[Path, Path]:
    return folder / layout.raw_name(disk), folder / layout.idx_name(disk)


def make_index_of(got: Path, disk: DiskImage, idx: Path) -> None:
    """The index of a whole disk from its parts, at ``idx``; it must be the one that was sealed."""
    blocks = block_count(disk.size)
    make_index(idx, disk.size)
    with idx.open("r+b") as stream:
        for part in got.glob(f"disk{disk.index}/*/{INDEX}"):
            first = int(part.parent.name) * GROUP * STRETCH
            entries = part.read_bytes()
            if first >= blocks or len(entries) != HASH * min(GROUP * STRETCH, blocks - first):
                raise damaged(f"disk {disk.index}: its block index has another length")
            stream.seek(first * HASH)
            stream.write(entries)
    if hash_index(idx) != disk.index_hash:
        raise damaged(f"disk {disk.index}: its block index is not the one that was sealed")


def _fill(
    disks: Sequence[_Disk], base: Version | None, got: Path, fetch: Fetch, tell: Tell
) -> None:
    """Contents of all disks; checked block by block."""
    wanted: list[tuple[_Disk, Stretch]] = []
    with ExitStack() as stack:
        for disk in disks:
            disk.raw.unlink(missing_ok=True)
            before = _begin_raw(disk, base, stack)
            index = stack.enter_context(Index(disk.idx))
            wanted += [(disk, one) for one in _differing(disk, index, before)]
    total = sum(one.length(disk.image.size) for disk, one in wanted)
    tell("fetching", 0, total)
    if wanted:
        fetch(_paths(disks, [one for _, one in wanted]), got, total)
    for disk, stretch in wanted:
        _put_stretch(disk, stretch, got)
    _verify(disks, tell)


def _begin_raw(disk: _Disk, base: Version | None, stack: ExitStack) -> Index | None:
    """A clone of the same disk in ``base``, and its index; else an empty disk."""
    image = disk.image
    if base is not None and any(
        (one.index, one.size) == (image.index, image.size) for one in base.manifest.disks
    ):
        clone_file(base.raw(image.index), disk.raw)
        return stack.enter_context(Index(base.idx(image.index)))
    with disk.raw.open("xb") as raw:
        raw.truncate(image.size)
    return None


def _differing(disk: _Disk, index: Index, before: Index | None) -> Iterator[Stretch]:
    """What is not in the raw file yet; what the base has there is taken out of it."""
    new = {one.number: one for one in stretches_of(index, disk.image.index)}
    old = {}
    if before is not None:
        old = {one.number: one for one in stretches_of(before, disk.image.index)}
    with disk.raw.open("r+b") as raw:
        for number, one in old.items():
            there = new.get(number)
            if there is None or there.entries != one.entries:
                start = one.first * BLOCK
                punch_hole(raw.fileno(), start, min(STRETCH * BLOCK, disk.image.size - start))
    for number, one in sorted(new.items()):
        if number not in old or old[number].entries != one.entries:
            yield one


def _paths(disks: Sequence[_Disk], wanted: Sequence[Stretch]) -> list[str]:
    if len(wanted) <= MOST_NAMED:
        return [f"/{one.path}" for one in wanted]
    groups = {group_path(one.disk, one.number // GROUP) for one in wanted}
    if len(groups) <= MOST_NAMED:
        return [f"/{one}" for one in sorted(groups)]
    return [f"/disk{one.image.index}" for one in disks]


def _put_stretch(disk: _Disk, stretch: Stretch, got: Path) -> None:
    path = got / stretch.path
    try:
        if path.stat().st_size != stretch.length(disk.image.size):
            raise damaged(f"disk {stretch.disk}: a segment has another length")
        with path.open("rb") as segment, disk.raw.open("r+b") as raw:
            at = 0
            for first, count in stretch.runs():
                length = min(count * BLOCK, disk.image.size - first * BLOCK)
                copy_range(segment.fileno(), at, raw.fileno(), first * BLOCK, length)
                at += length
        path.unlink()
    except FileNotFoundError:
        raise damaged(f"disk {stretch.disk}: a segment is missing") from None


def _verify(disks: Sequence[_Disk], tell: Tell) -> None:
    total = sum(one.image.used for one in disks) * BLOCK
    done = 0
    for disk in disks:
        with Index(disk.idx) as index, disk.raw.open("rb") as raw:
            for stretch in stretches_of(index, disk.image.index):
                tell("checking", done, total)
                done += _verify_stretch(disk, stretch, raw.fileno())
    tell("checking", total, total)


def _verify_stretch(disk: _Disk, stretch: Stretch, raw: int) -> int:
    done = 0
    for number, digest in blocks_in(stretch):
        if hash_block(os.pread(raw, BLOCK, number * BLOCK)) != digest:
            raise damaged(f"disk {stretch.disk}: block {number} does not fit its hash")
        done += BLOCK
    return done


def blocks_in(stretch: Stretch) -> Iterator[tuple[int, bytes]]:
    """Number and hash of each used block."""
    for at in range(0, len(stretch.entries), HASH):
        digest = stretch.entries[at : at + HASH]
        if digest != HOLE:
            yield stretch.first + at // HASH, digest


def wrong_blocks(stretch: Stretch, segment: bytes) -> list[int]:
    """Blocks of a segment that don't fit their hashes: a sample, without putting it together."""
    wrong, at = [], 0
    for number, digest in blocks_in(stretch):
        content = segment[at : at + BLOCK]
        at += BLOCK
        if not content or hash_block(content) != digest:
            wrong.append(number)
    return wrong
