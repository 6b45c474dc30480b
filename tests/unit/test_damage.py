"""Checking, mending and repairing versions, on any filesystem: nothing is shared here."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from test_pool import SIZE, content, frame, manifest, replicate, store

from notfallserver.server.host.direct import DirectReader
from notfallserver.server.pool.health import Health
from notfallserver.server.pool.index import Index
from notfallserver.server.pool.mend import mend_index
from notfallserver.server.pool.repair import inherited_damage, repair_blocks, repair_size
from notfallserver.server.pool.scrub import check_blocks, files_fit, index_fits, may_build_on
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.pool.version import Version, check_version
from notfallserver.wire.blocks import BLOCK, HASH, HOLE, UNKNOWN, Run, hash_block
from notfallserver.wire.facts import Disk

__all__ = ["store"]

USED = {1: content(1), 2: content(2), 17: content(17), 40: content(40)}


def damage(path: Path, offset: int, what: bytes = b"rotten") -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(what)


def bad_blocks(version: Version, start: int = 0) -> list[Run]:
    found = [one.bad for one in check_blocks(version, version.manifest.disks[0], start=start)]
    return [run for runs in found for run in runs]


def mend(version: Version, work: Path, *others: Path) -> bool:
    return mend_index(version, version.manifest.disks[0], others, work, lambda _: None)


def test_sound_versions_are_read_once_and_found_sound(store: PrimaryStore) -> None:
    version = replicate(store, USED)
    (disk,) = version.manifest.disks
    assert files_fit(version, disk) and index_fits(version, disk)
    stretches = list(check_blocks(version, disk))
    assert [one.bad for one in stretches] == [[]] * len(stretches)
    assert sum(one.used for one in stretches) == 4 * BLOCK
    assert 3 * BLOCK + 4096 <= sum(one.read for one in stretches) <= SIZE


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (BLOCK + 5, [(1, 1)]),
        (3 * BLOCK - 3, [(2, 2)]),  # the second half falls into a hole
        (9 * BLOCK, [(9, 1)]),  # the index says hole
        (SIZE - 6, [(40, 1)]),
    ],
)
def test_changed_bytes_are_found(store: PrimaryStore, where: int, found: list[Run]) -> None:
    version = replicate(store, USED)
    damage(version.raw(0), where)
    assert bad_blocks(version) == found
    assert bad_blocks(version, start=256) == []


def test_content_that_became_a_hole_is_found(store: PrimaryStore) -> None:
    version = replicate(store, USED)
    damage(version.raw(0), BLOCK, bytes(2 * BLOCK))
    assert bad_blocks(version) == [(1, 2)]
    os.truncate(version.raw(0), 0)
    assert not files_fit(version, version.manifest.disks[0])
    repair_size(version, version.manifest.disks[0])
    assert files_fit(version, version.manifest.disks[0])
    assert bad_blocks(version) == [(1, 2), (17, 1), (40, 1)]
    version.raw(0).unlink()
    repair_size(version, version.manifest.disks[0])
    assert bad_blocks(version) == [(1, 2), (17, 1), (40, 1)]


def failing(monkeypatch: pytest.MonkeyPatch, path: Path, number: int) -> None:
    """Reading a block of a file fails as on a broken disk, until it is written anew."""
    whole = DirectReader._read
    inode, written = path.stat().st_ino, path.stat().st_mtime_ns

    def read(self: DirectReader, handle: int, offset: int, length: int) -> memoryview:
        seen = os.fstat(handle)
        same = seen.st_ino == inode and seen.st_mtime_ns == written
        if same and offset <= number * BLOCK < offset + length:
            raise OSError(errno.EIO, "Input/output error")
        return whole(self, handle, offset, length)

    monkeypatch.setattr(DirectReader, "_read", read)


def test_an_unreadable_block_is_damage_and_is_repaired(
    store: PrimaryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = replicate(store, USED)
    new = replicate(store, USED)
    failing(monkeypatch, new.raw(0), 2)
    assert bad_blocks(new) == [(2, 1)] and bad_blocks(old) == []
    done = repair_blocks(store, new, new.manifest.disks[0], [(2, 1)])
    assert (done.repaired, done.left, done.sources) == (1, [], {f"version {old.stamp}"})
    assert bad_blocks(new) == [] and check_version(new) == []


def test_a_block_is_repaired_only_with_content_that_fits_its_hash(store: PrimaryStore) -> None:
    old = replicate(store, USED)
    new = replicate(store, {17: content(17, 1)})
    (disk,) = new.manifest.disks
    for number in (1, 2, 9, 17):
        damage(new.raw(0), number * BLOCK)
    damage(old.raw(0), 2 * BLOCK)
    done = repair_blocks(store, new, disk, [(0, 41)])
    # 1 from the old version, 9 is a hole; of 2 both copies are damaged; 17 was another before
    assert (done.repaired, done.left) == (39, [(2, 1), (17, 1)])
    assert bad_blocks(new) == [(2, 1), (17, 1)] and bad_blocks(old) == [(2, 1)]
    with store.open_incoming("run", [Disk("vda", SIZE)]) as incoming:
        incoming.receive(frame({17: content(17, 1)}))
        done = repair_blocks(store, new, disk, done.left)
    assert (done.left, done.sources) == ([(2, 1)], {"unfinished version"})
    with store.preparing(new) as clones:
        damage(clones.disks[0], 2 * BLOCK, content(2))
        assert repair_blocks(store, new, disk, done.left).sources == {"prepared image"}
    assert check_version(new) == []


def test_damage_of_the_base_is_asked_for_again_and_inherited_only_when_it_is_there(
    store: PrimaryStore,
) -> None:
    base = replicate(store, USED)
    for number in (1, 2):
        damage(base.raw(0), number * BLOCK)
    store.health.change(base.stamp, lambda one: one.with_blocks(0, [(1, 1)]))
    incoming = store.open_incoming("run", [Disk("vda", SIZE)])
    assert (incoming.in_place, incoming.base) == (False, base.stamp)
    offered = [(number, hash_block(data)) for number, data in USED.items()]
    with incoming:
        assert incoming.offer(0, offered) == b"\x80"
    incoming.close()
    incoming = store.open_incoming("again", [Disk("vda", SIZE)])
    assert incoming.resumed and not incoming.in_place
    with incoming:
        incoming.receive(frame({1: content(1)}))
    new = incoming.seal(manifest(store, base.stamp))
    assert inherited_damage(new, base, {0: [(1, 2)]}) == {0: [(2, 1)]}
    assert repair_blocks(store, base, base.manifest.disks[0], [(1, 2)]).left == [(2, 1)]


def test_the_newest_sound_version_is_the_best(store: PrimaryStore) -> None:
    assert store.best() is None
    old, new = replicate(store, USED), replicate(store, {1: content(1, 1)})
    assert store.best() == new
    store.health.change(new.stamp, lambda one: one.with_blocks(0, [(1, 1)]))
    assert store.best() == old and store.newest() == new
    store.health.change(old.stamp, lambda one: one.with_index(0, False))
    assert store.best() == new  # better than nothing


def test_an_image_prepared_before_damage_was_found_is_made_anew(store: PrimaryStore) -> None:
    version = replicate(store, USED)
    with store.preparing(version) as clones:
        store.seal_prepared(clones, {})
    assert store.prepared(version.stamp)
    store.health.change(version.stamp, lambda one: one.with_blocks(0, [(1, 1)]))
    assert store.prepared(version.stamp) is None
    with store.preparing(version) as clones:
        store.seal_prepared(clones, {})
    assert store.prepared(version.stamp)


def flip_entry(version: Version, number: int) -> None:
    damage(version.idx(0), number * HASH + 3, b"\x01\x02")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda version: flip_entry(version, 2),
        lambda version: flip_entry(version, 9),
        lambda version: version.idx(0).unlink(),
        lambda version: os.truncate(version.idx(0), 30),
        lambda version: damage(version.idx(0), 0, b"x" * 41 * HASH),
    ],
)
def test_a_spoilt_index_is_mended_from_the_image(
    store: PrimaryStore, spoil: Callable[[Version], None]
) -> None:
    version = replicate(store, USED)
    before = version.idx(0).read_bytes()
    spoil(version)
    assert not index_fits(version, version.manifest.disks[0])
    assert mend(version, store.paths.work)
    assert version.idx(0).read_bytes() == before and check_version(version) == []


def test_index_and_image_are_told_apart_when_both_are_spoilt(store: PrimaryStore) -> None:
    older = replicate(store, USED)
    version = replicate(store, {17: content(17, 1)})
    newer = replicate(store, {17: content(17, 2)})
    before = version.idx(0).read_bytes()
    flip_entry(version, 17)  # only the image knows this one
    damage(version.raw(0), 2 * BLOCK)  # and this one only the other versions
    others = (newer.idx(0), older.idx(0))
    assert mend(version, store.paths.work, *others)
    assert version.idx(0).read_bytes() == before
    assert bad_blocks(version) == [(2, 1)]
    # With nobody to ask: the damaged index says what the block of the image must be.
    flip_entry(version, 17)
    assert not mend(version, store.paths.work)
    assert bad_blocks(version) == [(2, 1), (17, 1)]


def test_an_index_that_cannot_be_found_has_at_least_its_length(store: PrimaryStore) -> None:
    version = replicate(store, USED)
    version.idx(0).unlink()
    damage(version.raw(0), 2 * BLOCK)
    assert not mend(version, store.paths.work)
    assert files_fit(version, version.manifest.disks[0])
    assert bad_blocks(version) == []  # nothing tells it; the index as a whole is known as wrong
    with Index(version.idx(0)) as index:
        assert index.known() and index[3] == HOLE and index[1] == hash_block(content(1))
        assert UNKNOWN not in (index[1], index[2])


def test_a_long_index_is_left_to_the_check(
    store: PrimaryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = replicate(store, USED)
    (disk,) = version.manifest.disks
    assert may_build_on(version, disk)
    flip_entry(version, 1)
    assert not may_build_on(version, disk)
    monkeypatch.setattr("notfallserver.server.pool.scrub.LONG_INDEX", 40 * HASH - 1)
    assert may_build_on(version, disk)


def test_health_is_read_as_it_was_written() -> None:
    known = Health("x", {3: ((1, 2), (9, 1))}, (0, 4), 5, True, False)
    assert Health.from_json(known.to_json()) == known
