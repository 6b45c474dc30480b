"""Captures on a real XFS: clones share, extent maps tell what changed, indices stay true."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from notfallserver.server.cycle.emergency.capture import capture
from notfallserver.server.host.clone import clone_file, differing_blocks, extents
from notfallserver.server.host.mount import unmount_image
from notfallserver.server.pool.incoming import utc_now
from notfallserver.server.pool.proof import Evidence
from notfallserver.server.pool.setup import prepare_pool
from notfallserver.server.pool.store import Pool, PrimaryStore
from notfallserver.server.pool.version import Manifest, Version, check_version
from notfallserver.wire.blocks import BLOCK, hash_block
from notfallserver.wire.facts import Disk, Machine
from notfallserver.wire.frames import PLAIN, write_blocks

BLOCKS = 400
SIZE = BLOCKS * BLOCK


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    place = prepare_pool(tmp_path / "pool", tmp_path / "pool.img", 2 << 30)
    try:
        assert place.reflink and place.image is not None
        assert prepare_pool(place.directory, place.image, 2 << 30) == place
        yield Pool(place.directory)
    finally:
        unmount_image(tmp_path / "pool")


def first_version(store: PrimaryStore) -> Version:
    source = random.Random(1)
    incoming = store.open_incoming("run", [Disk("vda", SIZE)])
    with incoming:
        for start in range(0, BLOCKS, 64):
            numbers = [one for one in range(start, min(start + 64, BLOCKS)) if one % 5]
            blocks = {one: source.randbytes(BLOCK) for one in numbers}
            entries = [(one, hash_block(blocks[one])) for one in numbers]
            incoming.receive(write_blocks(0, entries, b"".join(blocks.values()), PLAIN))
    return incoming.seal(
        Manifest(
            primary=store.uuid,
            name="shop",
            stamp=store.fresh_stamp(),
            kind="replication",
            consistency="filesystem",
            base="",
            machine=Machine("shop", disks=[Disk("vda", SIZE)]),
            disks=(),
            started_at=utc_now(),
            sealed_at=utc_now(),
        )
    )


def test_capture_hashes_only_what_the_stand_in_wrote(pool: Pool) -> None:
    store = pool.add_primary(str(uuid4()), "shop")
    version = first_version(store)
    with store.preparing(version) as clones:
        with clones.disks[0].open("r+b") as disk:  # as the adaptation does
            disk.seek(7 * BLOCK)
            disk.write(b"adapted")
        store.seal_prepared(clones, {})
    prepared = store.newest_prepared()
    assert prepared is not None
    standin = store.make_standin(prepared, {})
    with standin.disks[0].open("r+b") as disk:
        for number in (5, 100, 399):  # 5 and 100 were holes
            disk.seek(number * BLOCK + 17)
            disk.write(b"written by the stand-in")
    taken = capture(store, standin, nullcontext(), "crash")
    assert taken.changed == 4 * BLOCK
    assert taken.version.manifest.kind == "capture"
    assert check_version(taken.version) == []
    assert taken.version.raw(0).read_bytes() == standin.disks[0].read_bytes()
    assert check_version(version) == []
    again = capture(store, standin, nullcontext(), "crash")
    assert again.changed == 0
    assert again.version.manifest.base == taken.version.stamp


def test_a_stand_in_of_an_older_version_leaves_the_newer_one_as_it_is(pool: Pool) -> None:
    """What is captured goes back to the version that the stand-in was made of."""
    store = pool.add_primary(str(uuid4()), "shop")
    old = first_version(store)
    with store.preparing(old) as clones:
        store.seal_prepared(clones, {})
    store.proofs.keep(old.stamp, Evidence("r", started=True))
    newer = next_version(store)
    assert len(newer.manifest.machine.disks) == 2
    with store.preparing(newer) as clones:
        store.seal_prepared(clones, {})
    prepared = store.prepared(old.stamp)
    assert prepared is not None, "the image of the newest proven version stays"
    standin = store.make_standin(prepared, {})
    assert store.need_current().stamp == old.stamp
    with standin.disks[0].open("r+b") as disk:
        disk.seek(5 * BLOCK)
        disk.write(b"written by the stand-in")
    before = newer.raw(0).read_bytes()
    taken = capture(store, standin, nullcontext(), "crash")
    manifest = taken.version.manifest
    assert (manifest.base, manifest.machine) == (old.stamp, old.manifest.machine)
    assert len(manifest.disks) == 1 and taken.changed == BLOCK
    assert taken.version.raw(0).read_bytes() == standin.disks[0].read_bytes()
    assert check_version(taken.version) == check_version(newer) == []
    assert newer.raw(0).read_bytes() == before
    again = capture(store, standin, nullcontext(), "crash")
    assert (again.changed, again.version.manifest.base) == (0, taken.version.stamp)
    assert store.need_current().stamp == again.version.stamp
    store.retire_standin()
    assert store.need_current().stamp == again.version.stamp == store.need_newest().stamp
    assert [one.stamp for one in store.versions()] == [
        *(again.version.stamp, taken.version.stamp, newer.stamp, old.stamp)
    ]


def next_version(store: PrimaryStore) -> Version:
    """A disk was added, and one block of the first one written."""
    disks = [Disk("vda", SIZE), Disk("vdb", 4 * BLOCK)]
    incoming = store.open_incoming("run", disks)
    content = b"x" * BLOCK
    with incoming:
        for disk in (0, 1):
            entries = [(3, hash_block(content))]
            incoming.receive(write_blocks(disk, entries, content, PLAIN))
    newest = store.need_newest()
    return incoming.seal(
        replace(
            newest.manifest,
            stamp=store.fresh_stamp(),
            base=newest.stamp,
            machine=Machine("shop", disks=disks),
        )
    )


def test_difference_of_clones_is_read_from_the_extents(pool: Pool) -> None:
    old, new = pool.root / "old", pool.root / "new"
    old.write_bytes(random.Random(2).randbytes(64 * BLOCK))
    assert clone_file(old, new)
    assert differing_blocks(old, new, 64 * BLOCK) == []
    with new.open("r+b") as stream:
        stream.seek(10 * BLOCK - 1)
        stream.write(b"xx")
        stream.truncate(70 * BLOCK)
        stream.seek(69 * BLOCK)
        stream.write(b"x")
    assert differing_blocks(old, new, 70 * BLOCK) == [(9, 2), (69, 1)]
    assert sum(one.length for one in extents(old)) == 64 * BLOCK
    strange = pool.root / "strange"
    strange.write_bytes(old.read_bytes())
    assert differing_blocks(old, strange, 64 * BLOCK) == [(0, 64)]
