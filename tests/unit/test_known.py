"""What the pool holds somewhere is found by hash, proved, and not asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from test_pool import content, frame, manifest, replicate

from notfallserver.server.pool.hints import Hints, build_hints
from notfallserver.server.pool.incoming import Incoming
from notfallserver.server.pool.index import Index, make_index
from notfallserver.server.pool.known import KnownContent
from notfallserver.server.pool.store import Pool, PrimaryStore
from notfallserver.server.pool.version import Version, check_version
from notfallserver.wire.blocks import BLOCK, HOLE, UNKNOWN, hash_block
from notfallserver.wire.facts import Disk

SIZE = 40 * BLOCK + 4096


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool(tmp_path)


@pytest.fixture
def shop(pool: Pool) -> tuple[PrimaryStore, Version]:
    """A primary that holds blocks 1 to 3 and the short last one."""
    store = pool.add_primary(str(uuid4()), "shop")
    blocks = {number: content(number) for number in (1, 2, 3, 40)}
    return store, replicate(store, blocks)


@pytest.fixture
def known(pool: Pool, shop: object) -> Iterator[KnownContent]:
    known = KnownContent(pool)
    known.refresh(30)
    yield known
    known.close()


def begin(pool: Pool, known: KnownContent, store: PrimaryStore | None = None) -> Incoming:
    store = store or pool.add_primary(str(uuid4()), "mail")
    incoming = store.open_incoming("run", [Disk("vda", SIZE)])
    incoming.search = lambda digests: known.find(store.uuid, digests)
    return incoming


def offered(*blocks: tuple[int, bytes]) -> list[tuple[int, bytes]]:
    return [(number, hash_block(data)) for number, data in blocks]


def test_another_primarys_blocks_are_taken_over_at_other_places(
    pool: Pool, known: KnownContent
) -> None:
    incoming = begin(pool, known)
    asked = offered((7, content(1)), (8, content(2)), (9, content(99)), (20, content(3)))
    with incoming:
        assert incoming.offer(0, asked) == bytes([0b00100000])
        assert incoming.offer(0, asked[:2]) == bytes(1)
        incoming.receive(frame({9: content(99)}))
    store = PrimaryStore(incoming._paths)
    version = incoming.seal(manifest(store, ""))
    assert check_version(version) == []
    raw = version.raw(0).read_bytes()
    assert raw[7 * BLOCK : 9 * BLOCK] == content(1) + content(2)
    assert raw[20 * BLOCK : 21 * BLOCK] == content(3)
    assert incoming.counts.shared == 3 * BLOCK


def test_a_short_block_is_sent(pool: Pool, known: KnownContent) -> None:
    incoming = begin(pool, known)
    with incoming:
        assert incoming.offer(0, offered((40, content(40)))) == bytes([0x80])
    incoming.close()


def test_content_that_does_not_fit_is_asked_for_and_not_told_of(
    pool: Pool, known: KnownContent, shop: tuple[PrimaryStore, Version]
) -> None:
    with shop[1].raw(0).open("r+b") as raw:  # damage that no check has found yet
        raw.seek(2 * BLOCK)
        raw.write(b"?")
    incoming = begin(pool, known)
    with incoming:
        assert incoming.offer(0, offered((5, content(1)), (6, content(2)))) == bytes([0x40])
        disk = incoming._disks[0]
        assert disk.idx[5] == hash_block(content(1))
        assert disk.idx[6] == UNKNOWN
    incoming.close()


def test_known_damage_is_not_touched(
    pool: Pool, known: KnownContent, shop: tuple[PrimaryStore, Version]
) -> None:
    store, version = shop
    store.health.change(version.stamp, lambda one: one.with_blocks(0, [(1, 2)]))
    incoming = begin(pool, known)
    with incoming:
        assert incoming.offer(
            0, offered((4, content(1)), (5, content(2)), (6, content(3)))
        ) == bytes([0xC0])
        assert incoming._disks[0].idx[4] == HOLE
    incoming.close()


def test_where_sharing_is_off_a_primary_finds_only_its_own(
    pool: Pool, shop: tuple[PrimaryStore, Version]
) -> None:
    known = KnownContent(pool, shared=False)
    known.refresh(30)
    other = begin(pool, known)
    own = begin(pool, known, shop[0])
    moved = offered((11, content(1)))
    with other, own:
        assert other.offer(0, moved) == bytes([0x80])
        assert own.offer(0, moved) == bytes(1)
    assert known.pays(shop[0].uuid)
    assert not known.pays(str(uuid4()))
    for one in (other, own):
        one.close()
    known.close()


def test_a_version_that_went_is_no_source(
    pool: Pool, known: KnownContent, shop: tuple[PrimaryStore, Version]
) -> None:
    incoming = begin(pool, known)
    pool.remove_primary(shop[0].uuid)
    with incoming:
        assert incoming.offer(0, offered((4, content(1)))) == bytes([0x80])
    known.refresh(30)
    assert not known.pays(str(uuid4()))
    incoming.close()


def test_old_broken_and_missing_hints_only_find_less(
    pool: Pool, shop: tuple[PrimaryStore, Version]
) -> None:
    store, version = shop
    known = KnownContent(pool)
    known.refresh(30)
    table = next(store.paths.known.glob("*.hints"))
    later = replicate(store, {2: content(2, seed=5)})
    known.refresh(30)
    assert list(store.paths.known.iterdir()) == [table]  # of the version before
    digests = [hash_block(one) for one in (content(1), content(2), content(2, seed=5))]
    assert known.find(store.uuid, digests) == [(later.raw(0), 1), None, None]
    known.close()
    for spoiled in (b"", os.urandom(table.stat().st_size), table.read_bytes()[:-1]):
        table.write_bytes(spoiled)
        known = KnownContent(pool)
        known.refresh(30)
        assert known.find(store.uuid, digests)[0] == (later.raw(0), 1)
        known.close()
    assert version.raw(0).exists()


def test_a_table_finds_everything_also_where_many_blocks_are_the_same(tmp_path: Path) -> None:
    blocks = 3000
    make_index(tmp_path / "idx", blocks * BLOCK)
    digests = [os.urandom(16) for _ in range(blocks)]
    with Index(tmp_path / "idx", write=True) as index:
        for number, digest in enumerate(digests):
            index[number] = HOLE if number % 5 == 0 else digests[1] if number % 5 == 1 else digest
        build_hints(index, tmp_path / "hints")
        hints = Hints(tmp_path / "hints", index)
        missed = [
            number
            for number in range(blocks)
            if number % 5 > 1 and hints.find(digests[number]) != number
        ]
        assert len(missed) < blocks // 100
        assert hints.find(digests[1]) % 5 == 1
        assert hints.find(os.urandom(16)) == -1


def test_manifest_counts_what_was_shared(shop: tuple[PrimaryStore, Version]) -> None:
    one = replace(shop[1].manifest, bytes_shared=BLOCK)
    assert type(one).from_json(one.to_json()).bytes_shared == BLOCK
