"""The pool, or the disk beside it, is full in the middle of the work: on real small filesystems."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from agent_receiver import Receiver, mounted
from source_machine import MIB, Machine
from source_machine import check_version as check_files
from test_capture import SIZE, first_version, pool

from notfallserver.agent.service import Service
from notfallserver.agent.stop import Stop
from notfallserver.server.cycle.emergency.capture import capture
from notfallserver.server.cycle.retention.removal import Counts, Removals
from notfallserver.server.host.clone import clone_file
from notfallserver.server.host.files import replace_json
from notfallserver.server.host.mount import make_xfs, mount_image, unmount_image
from notfallserver.server.host.run import run
from notfallserver.server.host.set_aside import give_back
from notfallserver.server.pool import room
from notfallserver.server.pool.hints import build_hints
from notfallserver.server.pool.index import Index, make_index
from notfallserver.server.pool.room import Room, reserve_of
from notfallserver.server.pool.store import Pool
from notfallserver.server.pool.version import check_version
from notfallserver.server.records import open_catalogue
from notfallserver.server.records.catalogue import FILE
from notfallserver.wire.blocks import BLOCK, hash_block
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk
from notfallserver.wire.frames import PLAIN, write_blocks

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
__all__ = ["pool"]


def free(place: Path) -> int:
    told = os.statvfs(place)
    return told.f_bavail * told.f_frsize


def leave(place: Path, left: int) -> Path:
    """Occupy space until only so much is free; 0: until nothing more can be written."""
    ballast = place / "ballast"
    handle = os.open(ballast, os.O_WRONLY | os.O_CREAT, 0o600)
    step = 1 << 40
    try:
        while step >= 4096:
            step = min(step, max(0, free(place) - left) // 4096 * 4096)
            try:
                os.posix_fallocate(handle, os.fstat(handle).st_size, max(step, 4096))
            except OSError:
                step //= 2
            if left and free(place) <= left + 4096:
                break
    finally:
        os.close(handle)
    return ballast


# -- replication ---------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Receiver]:
    """A receiver whose pool is a filesystem of 640 MiB."""
    root = tmp_path / "server"
    make_xfs(tmp_path / "pool.img", 640 * MIB)
    mount_image(tmp_path / "pool.img", root / "pool")
    receiver = Receiver(root)
    try:
        yield receiver
    finally:
        receiver.close()
        unmount_image(root / "pool")


def replicate(receiver: Receiver) -> None:
    service = Service(receiver.config, Stop())
    try:
        service.replicate()
    finally:
        service.close()


def test_a_run_that_fills_the_pool_says_so_and_goes_on_when_there_is_room(
    machine: Machine, small: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of so small a pool a hundredth is not much more than the frames that are under way.
    monkeypatch.setattr(room, "_SHARE", 20)
    place = small.store.paths.root.parent
    small.settings(machine.disks, workers=2)
    replicate(small)
    first = small.store.need_newest()
    (machine.main / "large").write_bytes(os.urandom(48 * MIB))
    os.sync()
    whole = os.statvfs(place)
    reserve = reserve_of(whole.f_blocks * whole.f_frsize)
    ballast = leave(place, reserve + 24 * MIB)

    with pytest.raises(NotfallError) as refused:
        replicate(small)
    assert refused.value.code == "pool-full" and "Remove old versions" in refused.value.remedy
    assert small.failures[-1]["code"] == "pool-full"
    assert free(place) > reserve // 2  # a stand-in could go on
    assert [one.stamp for one in small.store.versions()] == [first.stamp]
    assert check_version(first) == []
    assert small.store.paths.incoming.is_dir()

    ballast.unlink()
    small.blocks_bytes = 0
    replicate(small)
    assert small.blocks_bytes < 40 * MIB  # what had come is not sent again
    second = small.store.need_newest()
    assert second.manifest.base == first.stamp
    assert check_version(first) == [] and check_version(second) == []
    files = {f"main/{name}": (machine.main / name).read_bytes() for name in ("large", "file3")}
    check_files(small, machine, files)


def test_what_a_broken_run_has_brought_can_be_given_up(small: Receiver) -> None:
    place = small.store.paths.root.parent
    machine = {"hostname": "shop", "disks": [{"name": "vda", "size": SIZE}]}
    begun = small.runs.begin(small.uuid, "shop", {"machine": machine})
    content = [random.Random(at).randbytes(BLOCK) for at in range(64)]
    entries = [(at, hash_block(one)) for at, one in enumerate(content)]
    frame = write_blocks(0, entries, b"".join(content), PLAIN)
    ballast = leave(place, 16 * MIB)
    small.runs.receive(small.uuid, begun["run"], frame)
    assert not small.runs.give_up(small.uuid)  # it is under way
    small.runs.fail(small.uuid, begun["run"], {"code": "pool-full", "cause": "It is full."})
    before = free(place)
    assert small.runs.give_up(small.uuid) and give_back(place)
    assert free(place) >= before + len(content) * BLOCK
    assert not small.store.paths.incoming.exists()
    ballast.unlink()
    again = small.runs.begin(small.uuid, "shop", {"machine": machine})
    assert not again["resumed"]


def test_a_pool_without_any_space_left_ends_runs_and_captures_in_words(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = pool.add_primary(str(uuid4()), "shop")
    first = first_version(store)
    with store.preparing(first) as clones:
        store.seal_prepared(clones, {})
        standin = store.make_standin(clones, {})
    with standin.disks[0].open("r+b") as disk:
        disk.write(b"what the stand-in has done".ljust(BLOCK))
    os.sync()
    content = random.Random(9).randbytes(BLOCK)
    frame = write_blocks(0, [(7, hash_block(content))], content, PLAIN)
    incoming = store.open_incoming("run", [Disk("vda", SIZE)])
    monkeypatch.setattr(Room, "need", lambda _self: None)  # something else takes the last of it
    leave(pool.root, 0)
    with incoming, pytest.raises(NotfallError) as refused:
        incoming.receive(frame)
    assert refused.value.code == "pool-full" and refused.value.status == 507
    incoming.close()
    with pytest.raises(NotfallError) as refused:
        capture(store, standin, nullcontext(), "crash")
    assert refused.value.code == "pool-full" and not store.paths.incoming.exists()
    with pytest.raises(NotfallError) as refused:
        for number in range(1000):  # what the failed runs held became free
            leave(pool.root, 0)
            store.open_incoming(f"run{number}", [Disk("vda", SIZE)]).close()
    assert refused.value.code == "pool-full"
    assert [one.stamp for one in store.versions()] == [first.stamp]
    assert check_version(first) == []
    (pool.root / "ballast").unlink()
    second = capture(store, standin, nullcontext(), "crash").version
    assert check_version(second) == []
    assert second.raw(0).read_bytes() == standin.disks[0].read_bytes()


def test_an_index_that_can_not_be_written_is_an_error_and_not_the_end_of_the_process(
    pool: Pool,
) -> None:
    sealed, clone, new = (pool.root / name for name in ("sealed", "clone", "new"))
    make_index(sealed, 64 << 30)
    with Index(sealed, write=True) as index:
        for first in range(0, index.blocks, 1 << 16):
            index.put(first, os.urandom(16 << 16))
        index.sync()
        clone_file(sealed, clone)
        make_index(new, 64 << 30)
        leave(pool.root, 0)
        for path in (clone, new):
            with Index(path, write=True) as other, pytest.raises(OSError, match="No space"):
                for number in range(0, other.blocks, 256):  # each page
                    other[number] = b"x" * 16
        with pytest.raises(OSError, match="No space"):
            build_hints(index, pool.root / "hints")
        assert not list(pool.root.glob("hints*"))
        assert index[5] == index.slice(4, 2)[16:] != bytes(16)


# -- what XFS sets aside -------------------------------------------------------------------------


def used(pool: Pool) -> int:
    os.sync()
    told = os.statvfs(pool.root)
    return (told.f_blocks - told.f_bfree) * told.f_frsize


def test_a_run_occupies_what_it_brings_and_nothing_beside_it(pool: Pool) -> None:
    store = pool.add_primary(str(uuid4()), "shop")
    first = first_version(store)
    # As a version of an earlier server, of which XFS knows nothing.
    run(["xfs_io", "-c", "cowextsize 0", first.raw(0), "-c", "cowextsize 0", first.idx(0)])
    source = random.Random(4)
    for turn in range(2):
        before = used(pool)
        numbers = range(turn, SIZE // BLOCK, 5)  # each by itself, in shared blocks
        with store.open_incoming("run", [Disk("vda", SIZE)]) as incoming:
            for number in numbers:
                content = source.randbytes(BLOCK)
                entry = [(number, hash_block(content))]
                incoming.receive(write_blocks(0, entry, content, PLAIN))
        incoming.seal(replace(first.manifest, stamp=store.fresh_stamp()))
        assert used(pool) - before < len(numbers) * BLOCK + MIB


def test_what_a_machine_has_set_aside_is_not_taken_for_occupied(pool: Pool) -> None:
    one, other = pool.root / "one", pool.root / "other"
    one.write_bytes(os.urandom(64 * MIB))
    clone_file(one, other)
    with other.open("r+b") as disk:
        for at in range(0, 64 * MIB, MIB):
            disk.seek(at)
            disk.write(b"changed")
        disk.flush()
        os.sync()
        before, _ = pool.free()
        after, _ = pool.true_free()
        assert after - before > 64 * (100 << 10)
        assert (other.stat().st_blocks << 9) <= 64 * MIB + 4096


def test_what_is_removed_from_an_image_file_makes_it_smaller(pool: Pool, tmp_path: Path) -> None:
    image = tmp_path / "pool.img"
    (pool.root / "gone").write_bytes(os.urandom(64 * MIB))
    os.sync()
    before = image.stat().st_blocks << 9
    (pool.root / "gone").unlink()
    give_back(pool.root)
    os.sync()
    means: Any = SimpleNamespace(pool=pool, place=SimpleNamespace(image=image))
    nothing: Any = None
    removals = Removals(means, nothing, nothing, nothing, nothing, nothing)
    removals._give_to_host(Counts())
    assert image.stat().st_blocks << 9 > before - MIB
    removals._give_to_host(Counts(bytes_freed=1))
    assert image.stat().st_blocks << 9 < before - 60 * MIB


# -- the catalogue beside it ---------------------------------------------------------------------


def test_a_full_disk_harms_neither_catalogue_nor_files(tmp_path: Path) -> None:
    image = tmp_path / "data.img"
    with image.open("xb") as stream:
        stream.truncate(24 * MIB)
    run(["mkfs.ext4", "-q", "-F", "-m", "0", image])
    with mounted(str(image), tmp_path / "data", "-o", "loop") as place:
        catalogue = open_catalogue(place)
        catalogue.preferences.set({"make_room_percent": 7}, "anna")
        replace_json(place / "ours.json", {"is": "old"})
        (place / "another").mkdir()
        ballast = leave(place, 0)
        noted = 0
        with pytest.raises(NotfallError) as refused:
            while noted < 5000:
                catalogue.journal.write("p", "removed", "anna", "x" * 1000)
                noted += 1
        assert (refused.value.code, refused.value.status) == ("disk-full", 507)
        with pytest.raises(OSError, match="No space"):
            replace_json(place / "ours.json", {"is": "new" * 10000})
        assert "old" in (place / "ours.json").read_text()
        assert len(catalogue.journal.entries("p", 5000)) == noted
        assert catalogue.preferences.all() == {"make_room_percent": 7}
        catalogue.close()
        leave(place, 0)
        with pytest.raises(NotfallError) as refused:  # not that it is broken
            open_catalogue(place / "another")
        assert refused.value.code == "disk-full"
        ballast.unlink()
        catalogue = open_catalogue(place)
        assert len(catalogue.journal.entries("p", 5000)) == noted
        catalogue.journal.write("p", "removed", "anna")
        catalogue.close()
        with sqlite3.connect(place / FILE) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
