"""The pool: what is sealed is complete, what is not sealed leaves the last version untouched."""

from __future__ import annotations

import errno
import json
import random
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from notfallserver.server.pool.incoming import BOOT_ID, utc_now
from notfallserver.server.pool.index import Index
from notfallserver.server.pool.layout import make_stamp, stamp_time
from notfallserver.server.pool.pins import Pin
from notfallserver.server.pool.room import Room
from notfallserver.server.pool.store import Pool, PrimaryStore
from notfallserver.server.pool.version import Application, Manifest, Version, check_version
from notfallserver.wire.blocks import BLOCK, HOLE, UNKNOWN, hash_block
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine
from notfallserver.wire.frames import ZLIB, write_blocks

SIZE = 40 * BLOCK + 4096  # the last block is short


@pytest.fixture
def store(tmp_path: Path) -> PrimaryStore:
    return Pool(tmp_path).add_primary(str(uuid4()), "shop")


def manifest(store: PrimaryStore, base: str) -> Manifest:
    return Manifest(
        primary=store.uuid,
        name="shop",
        stamp=store.fresh_stamp(),
        kind="replication",
        consistency="filesystem",
        base=base,
        machine=Machine("shop", disks=[Disk("vda", SIZE)]),
        disks=(),
        started_at=utc_now(),
        sealed_at=utc_now(),
    )


def content(number: int, seed: int = 0) -> bytes:
    length = 4096 if number == 40 else BLOCK
    return random.Random(number * 1000 + seed).randbytes(length)


def frame(blocks: dict[int, bytes]) -> bytes:
    entries = [(number, hash_block(data)) for number, data in sorted(blocks.items())]
    return write_blocks(0, entries, b"".join(data for _, data in sorted(blocks.items())), ZLIB)


def replicate(store: PrimaryStore, blocks: dict[int, bytes]) -> Version:
    incoming = store.open_incoming("run", [Disk("vda", SIZE)])
    with incoming:
        incoming.receive(frame(blocks))
    return incoming.seal(manifest(store, incoming.base))


def test_version_holds_what_was_sent_and_holes_elsewhere(store: PrimaryStore) -> None:
    version = replicate(store, {1: content(1), 2: content(2), 40: content(40)})
    raw = version.raw(0).read_bytes()
    assert len(raw) == SIZE
    assert raw[BLOCK : 3 * BLOCK] == content(1) + content(2)
    assert raw[40 * BLOCK :] == content(40)
    assert not any(raw[:BLOCK])
    assert version.manifest.disks[0].used == 3
    assert check_version(version) == []
    assert store.newest() == version


def test_a_version_remembers_its_applications_and_older_ones_have_none(
    store: PrimaryStore,
) -> None:
    one = Application("mariadb /var/lib/mysql", 12.5, "")
    known = replace(manifest(store, ""), consistency="application", applications=(one,))
    body = json.loads(json.dumps(known.to_json()))
    assert Manifest.from_json(body) == known
    del body["applications"]
    assert Manifest.from_json(body).applications == ()


def test_damage_is_found(store: PrimaryStore) -> None:
    version = replicate(store, {1: content(1)})
    with version.raw(0).open("r+b") as raw:
        raw.seek(BLOCK + 5)
        raw.write(b"x")
    assert check_version(version) == ["disk 0: 1 blocks differ from the index"]


def test_second_version_shares_and_changes_only_what_is_offered(store: PrimaryStore) -> None:
    first = replicate(store, {1: content(1), 2: content(2)})
    incoming = store.open_incoming("run2", [Disk("vda", SIZE)])
    assert incoming.base == first.stamp
    offer = [(1, hash_block(content(1))), (2, hash_block(content(2, 7))), (3, HOLE)]
    with incoming:
        assert incoming.offer(0, offer) == b"\x40"
        incoming.receive(frame({2: content(2, 7)}))
        incoming.punch(0, [(1, 1)])
    second = incoming.seal(manifest(store, incoming.base))
    assert not any(second.raw(0).read_bytes()[BLOCK : 2 * BLOCK])
    assert check_version(second) == [] and check_version(first) == []
    assert first.raw(0).read_bytes()[BLOCK : 3 * BLOCK] == content(1) + content(2)
    assert [one.stamp for one in store.versions()] == [second.stamp, first.stamp]


def test_interrupted_run_is_continued_and_leaves_the_last_version(store: PrimaryStore) -> None:
    first = replicate(store, {1: content(1)})
    cut = store.open_incoming("cut", [Disk("vda", SIZE)])
    with cut:
        cut.receive(frame({5: content(5)}))
    # No close: the process was killed. The next one finds the work.
    assert store.newest() == first
    again = store.open_incoming("again", [Disk("vda", SIZE)])
    assert again.resumed
    with again:
        assert again.offer(0, [(5, hash_block(content(5)))]) == b"\0"
    assert check_version(again.seal(manifest(store, again.base))) == []


def test_unfinished_work_of_an_earlier_boot_is_dropped(
    store: PrimaryStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with store.open_incoming("cut", [Disk("vda", SIZE)]) as cut:
        cut.receive(frame({5: content(5)}))
    assert BOOT_ID.exists()
    other = tmp_path / "boot_id"
    other.write_text("another boot\n")
    monkeypatch.setattr("notfallserver.server.pool.incoming.BOOT_ID", other)
    again = store.open_incoming("again", [Disk("vda", SIZE)])
    assert not again.resumed
    assert again.offer(0, [(5, hash_block(content(5)))]) == b"\x80"


def test_what_no_run_can_continue_is_dropped_at_the_start(
    store: PrimaryStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store.open_incoming("cut", [Disk("vda", SIZE)]).close()
    store.sweep()
    assert store.paths.incoming.exists()
    monkeypatch.setattr("notfallserver.server.pool.incoming.BOOT_ID", tmp_path / "boot_id")
    (tmp_path / "boot_id").write_text("another boot\n")
    store.sweep()
    assert not store.paths.incoming.exists()


def test_a_run_whose_manifest_finds_no_space_is_continued(
    store: PrimaryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(path: Path, content: Any) -> None:
        assert path.name == "manifest.json"
        raise OSError(errno.ENOSPC, "No space left on device")

    with store.open_incoming("cut", [Disk("vda", SIZE)]) as cut:
        cut.receive(frame({5: content(5)}))
    with monkeypatch.context() as full:
        full.setattr("notfallserver.server.pool.incoming.replace_json", no_space)
        with pytest.raises(NotfallError) as refused:
            cut.seal(manifest(store, ""))
    assert refused.value.code == "pool-full" and store.versions() == []
    again = store.open_incoming("again", [Disk("vda", SIZE)])
    assert again.resumed
    assert check_version(again.seal(manifest(store, ""))) == []
    assert not (store.need_newest().path / "run.json").exists()


def test_runs_leave_some_of_the_pool_free(
    store: PrimaryStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with store.open_incoming("run", [Disk("vda", SIZE)]) as incoming:
        usage = namedtuple("usage", "total used free")
        told = {incoming.room.root: usage(1000, 985, 15)}
        image = tmp_path / "disk" / "pool.img"
        monkeypatch.setattr("notfallserver.server.pool.room.disk_usage", told.__getitem__)
        incoming.receive(frame({5: content(5)}))
        told[incoming.room.root] = usage(1000, 995, 5)
        with pytest.raises(NotfallError) as refused:
            incoming.receive(frame({6: content(6)}))
        assert refused.value.code == "pool-full"
        told[incoming.room.root] = usage(1000, 500, 500)
        image.parent.mkdir()
        with image.open("xb") as stream:
            stream.truncate(1 << 20)
        incoming.room = Room(incoming.room.root, image)
        told[image.parent] = usage(1000, 995, 5)
        with pytest.raises(NotfallError, match=r"pool\.img"):  # it would have to grow
            incoming.receive(frame({6: content(6)}))
        told[image.parent] = usage(1000, 900, 100)
        incoming.receive(frame({6: content(6)}))


def test_half_written_block_cannot_be_sealed(store: PrimaryStore) -> None:
    incoming = store.open_incoming("run", [Disk("vda", SIZE)])
    with Index(store.paths.incoming / "disk0.idx", write=True) as index:
        index[3] = UNKNOWN
    with pytest.raises(NotfallError, match="missing"):
        incoming.seal(manifest(store, ""))
    assert store.versions() == []


def test_broken_contents_are_refused_and_change_nothing(store: PrimaryStore) -> None:
    incoming = store.open_incoming("run", [Disk("vda", SIZE)])
    good = frame({1: content(1)})
    wrong_hash = write_blocks(0, [(1, hash_block(content(2)))], content(1), ZLIB)
    outside = write_blocks(0, [(41, hash_block(content(1)))], content(1), ZLIB)
    other_disk = write_blocks(7, [(1, hash_block(content(1)))], content(1), ZLIB)
    for bad in (good[:-1], good[:10], good + b"x", wrong_hash, outside, other_disk, b"", b"NFB2"):
        with pytest.raises(NotfallError) as caught:
            incoming.receive(bad)
        assert caught.value.code == "bad-frame"
    with pytest.raises(NotfallError):
        incoming.punch(0, [(40, 2)])
    incoming.close()
    assert not any((store.paths.incoming / "disk0.raw").read_bytes())


def test_grown_disk_is_continued_and_compared(store: PrimaryStore) -> None:
    first = replicate(store, {1: content(1), 40: content(40)})
    incoming = store.open_incoming("run", [Disk("vda", SIZE + 10 * BLOCK)])
    longer = content(40) + bytes(BLOCK - 4096)
    with incoming:
        wanted = incoming.offer(0, [(1, hash_block(content(1))), (40, hash_block(longer))])
        assert wanted == b"\x40"
        incoming.receive(frame({40: longer}))
    grown = incoming.seal(manifest(store, first.stamp))
    assert check_version(grown) == []


def test_prepared_and_standin_are_seals_written_last(store: PrimaryStore) -> None:
    version = replicate(store, {1: content(1)})
    with store.preparing(version) as clones:
        assert store.prepared(version.stamp) is None
        store.seal_prepared(clones, {"changes": ["one"]})
    prepared = store.newest_prepared()
    assert prepared is not None and prepared.record["changes"] == ["one"]
    standin = store.make_standin(prepared, {})
    standin.disks[0].write_bytes(b"written by the stand-in")
    assert store.make_standin(prepared, {}).disks[0].read_bytes() == b"written by the stand-in"
    assert check_version(version) == []
    with pytest.raises(RuntimeError), store.preparing(replace(version)) as clones:
        raise RuntimeError
    assert store.prepared(version.stamp) is None


def test_stamps_sort_and_never_repeat(store: PrimaryStore) -> None:
    stamps = [replicate(store, {1: content(1, seed)}).stamp for seed in range(3)]
    assert stamps == sorted(set(stamps))
    assert make_stamp(stamp_time(stamps[0])) == stamps[0]
    with pytest.raises(NotfallError):
        stamp_time("../../etc")


def test_leftovers_of_a_crash_are_swept(store: PrimaryStore) -> None:
    replicate(store, {1: content(1)})
    (store.paths.root / "incoming.new").mkdir()
    (store.paths.versions / "x.12345678.discarded").mkdir()
    store.sweep()
    assert not (store.paths.root / "incoming.new").exists()
    assert len(list(store.paths.versions.iterdir())) == 1


def test_a_pinned_version_is_not_removed(store: PrimaryStore) -> None:
    held = replicate(store, {0: content(0)})
    store.pins.pin(held.stamp, "eva", Pin("before the upgrade", "eva", "2026-11-01T10:00:00Z"))
    with pytest.raises(NotfallError, match="before the upgrade"):
        store.remove_version(held.stamp)
    assert store.version(held.stamp).path.is_dir()
    store.pins.unpin(held.stamp, "eva")
    store.remove_version(held.stamp)
    assert store.versions() == []
