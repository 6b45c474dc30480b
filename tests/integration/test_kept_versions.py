"""Versions on a real XFS: what they alone occupy, to the block; and that nobody changes them."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from test_capture import first_version, pool
from test_scrub import captured, damage_file

from notfallserver.server.host.clone import clone_file, copy_range, punch_hole
from notfallserver.server.host.files import doom_tree
from notfallserver.server.host.immutable import can_protect, is_immutable
from notfallserver.server.host.places import places_of
from notfallserver.server.host.run import run
from notfallserver.server.pool.accounting import Accounts, files_of
from notfallserver.server.pool.repair import repair_blocks
from notfallserver.server.pool.store import Pool, PrimaryStore
from notfallserver.server.pool.version import check_version
from notfallserver.wire.blocks import BLOCK
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
__all__ = ["pool"]

UNIT = 4096


# -- accounting ----------------------------------------------------------------------------------


@pytest.fixture(params=["xfs", "btrfs"])
def ground(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A filesystem of its own. XFS gives inodes back by the dozen: where some stay, all do."""
    image, place = tmp_path / "ground.img", tmp_path / "ground"
    with image.open("xb") as stream:
        stream.truncate(512 << 20)
    run([f"mkfs.{request.param}", "-q", image])
    place.mkdir()
    run(["mount", "-o", "loop", image, place])
    for number in range(8):  # in all allocation groups
        (place / f"stays{number}").mkdir()
        (place / f"stays{number}" / "file").touch()
    try:
        yield place
    finally:
        run(["umount", place])


def settle(place: Path) -> int:
    """Free bytes when all is written; mounted anew, so that no space is set aside any more."""
    run(["mount", "-o", "remount,ro", place])
    run(["mount", "-o", "remount,rw", place])
    told = os.statvfs(place)
    return told.f_bfree * told.f_frsize


def freed_by_removing(place: Path, path: Path, least: int) -> int:
    """What is free afterwards; the filesystem may take a moment."""
    before = settle(place)
    shutil.rmtree(path)
    until = time.monotonic() + 10
    while (after := settle(place)) - before < least and time.monotonic() < until:
        time.sleep(0.1)
    return after - before


def write_blocks(path: Path, numbers: list[int]) -> None:
    with path.open("r+b") as stream:
        for number in numbers:
            stream.seek(number * BLOCK)
            stream.write(os.urandom(BLOCK))


def make_versions(place: Path) -> Path:
    """Two primaries: the first one's versions differ in some blocks, the other shares some."""
    versions = place / "one" / "versions"
    for number in range(4):
        here = versions / f"v{number}"
        here.mkdir(parents=True)
        (here / "manifest.json").write_bytes(os.urandom(5000))
        if not number:
            (here / "disk0.raw").write_bytes(os.urandom(64 * BLOCK))
            continue
        clone_file(versions / f"v{number - 1}" / "disk0.raw", here / "disk0.raw")
        write_blocks(here / "disk0.raw", [number, 10, 20 + number])
        with (here / "disk0.raw").open("r+b") as stream:
            punch_hole(stream.fileno(), (30 + number) * BLOCK, BLOCK)
    other = place / "two" / "versions" / "w0"
    other.mkdir(parents=True)
    with (
        (versions / "v2" / "disk0.raw").open("rb") as source,
        (other / "disk0.raw").open("x+b") as target,
    ):
        for number in range(2):  # twice in the same file
            copy_range(source.fileno(), 10 * BLOCK, target.fileno(), number * BLOCK, BLOCK)
    return versions


def test_what_versions_alone_occupy_is_what_is_free_when_they_went(ground: Path) -> None:
    versions = make_versions(ground)
    accounts = Accounts(ground)
    sets = {name: list((versions / name).iterdir()) for name in ("v0", "v1", "v2", "v3")}
    sets["v0 and v1"] = [*sets["v0"], *sets["v1"]]
    sets["all"] = [path for name in ("v0", "v1", "v2", "v3") for path in sets[name]]
    settle(ground)
    found = accounts.alone(sets)
    blocks = {name: (size - 2 * UNIT) // BLOCK for name, size in found.items()}
    # v0: blocks 1, 21 and 31 that were replaced or freed, and its 10; v1: its 10, then 2, 22, 32
    assert blocks["v0"] == 4 and blocks["v1"] == 1 and blocks["v2"] == 0
    assert found["v0 and v1"] > found["v0"] + found["v1"]  # they share what nobody else has
    assert found["all"] == places_of(versions / "v0" / "disk0.raw").size + sum(
        places_of(path).size for path in sets["all"] if path.name == "manifest.json"
    ) + BLOCK * (3 * 3 - 1)
    slack = 0 if "xfs" in run(["findmnt", "-no", "FSTYPE", ground]).out else 2 << 20
    for name in ("v1", "v2", "v0", "v3"):
        expected = accounts.alone({name: sets[name]})[name]
        freed = freed_by_removing(ground, versions / name, expected - slack)
        assert abs(freed - expected) <= slack, name


def told_by_filefrag(path: Path) -> set[int]:
    """The filesystem's blocks that a file occupies, by another program."""
    found = set()
    for line in run(["filefrag", "-v", "-b4096", path]).out.splitlines():
        cells = line.replace("..", ":").split(":")
        if len(cells) > 4 and cells[0].strip().isdecimal():
            found |= set(range(int(cells[3]), int(cells[4]) + 1))
    return found


def test_places_are_as_other_programs_tell_them(ground: Path) -> None:
    versions = make_versions(ground)
    settle(ground)
    told = {path: told_by_filefrag(path) for path in versions.glob("*/*")}
    for path, blocks in told.items():
        places = places_of(path)
        ours = {
            block
            for start, end in zip(places.starts, places.ends, strict=True)
            for block in range(start // UNIT, end // UNIT)
        }
        assert ours == blocks and places.size == len(blocks) * UNIT
    files = list((versions / "v3").iterdir())
    others = set().union(*(blocks for path, blocks in told.items() if path not in files))
    others |= told_by_filefrag(ground / "two" / "versions" / "w0" / "disk0.raw")
    alone = set().union(*(told[path] for path in files)) - others
    assert Accounts(ground).alone({"": files})[""] == len(alone) * UNIT > 0


def test_where_nothing_is_shared_a_file_occupies_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "disk0.raw"
    path.write_bytes(os.urandom(3 * UNIT))
    os.sync()
    assert Accounts(tmp_path, sparing=True).alone({"a": [path], "b": []}) == {
        "a": path.stat().st_blocks * 512,
        "b": 0,
    }


# -- protection ----------------------------------------------------------------------------------


@pytest.fixture
def store(pool: Pool) -> PrimaryStore:
    """A primary with two protected versions."""
    assert can_protect(pool.root)
    protecting = Pool(pool.root, protect=True)
    store = protecting.add_primary(str(uuid4()), "shop")
    first_version(store)
    captured(store, 5)
    store.protect()
    return store


def assert_protected(store: PrimaryStore) -> None:
    for version in store.versions():
        assert is_immutable(version.path)
        assert all(is_immutable(path) for path in version.path.iterdir())


def test_not_even_root_changes_a_sealed_version_by_mistake(store: PrimaryStore) -> None:
    assert_protected(store)
    version = store.need_newest()
    before = version.raw(0).read_bytes()
    gone = subprocess.run(["rm", "-rf", version.path], capture_output=True, check=False, text=True)
    assert gone.returncode == 1 and "Operation not permitted" in gone.stderr
    cut = subprocess.run(
        ["dd", "if=/dev/zero", f"of={version.raw(0)}", "bs=64k", "count=1"],
        capture_output=True,
        check=False,
    )
    assert cut.returncode == 1
    for path in version.path.iterdir():
        for mistake in (
            lambda path: path.open("r+b"),
            lambda path: os.truncate(path, 0),
            lambda path: path.unlink(),
            lambda path: path.rename(path.with_name("away")),
            lambda path: path.chmod(0o600),
        ):
            with pytest.raises(OSError) as refused:
                mistake(path)
            assert refused.value.errno == errno.EPERM
    for mistake in (
        lambda path: path.rename(path.with_name("away")),
        lambda path: (path / "more").touch(),
    ):
        with pytest.raises(OSError) as refused:
            mistake(version.path)
        assert refused.value.errno in (errno.EPERM, errno.EACCES)
    assert version.raw(0).read_bytes() == before and check_version(version) == []


def test_all_that_is_done_with_versions_works_on_protected_ones(store: PrimaryStore) -> None:
    new, old = store.versions()
    with store.working_clones(old, "look") as clones:
        damage_file(clones.disks[0], 0)  # a clone is a file as any other
    with store.open_incoming("run", [Disk("vda", new.manifest.disks[0].size)]) as incoming:
        assert incoming.base == new.stamp
    incoming.close()
    store.drop_incoming()
    captured(store, 7)
    assert check_version(store.need_newest()) == []
    (image,) = old.manifest.disks
    with store.writable(old):
        damage_file(old.raw(0), 3 * BLOCK)
    assert check_version(old) != []
    assert repair_blocks(store, old, image, [(3, 1)]).repaired == 1
    assert check_version(old) == []
    store.protect()
    assert_protected(store)


def test_two_repairs_at_once_leave_it_protected(store: PrimaryStore) -> None:
    version = store.need_newest()
    with store.writable(version):
        with store.writable(version):
            pass
        store.protect()  # as the sweep does meanwhile
        damage_file(version.raw(0), 0)
    assert_protected(store)


def test_what_a_crash_left_is_protected_or_removed_at_the_next_start(store: PrimaryStore) -> None:
    new, old = store.versions()
    crashed = store.writable(new)
    crashed.__enter__()
    doomed = doom_tree(old.path)
    assert doomed is not None and doomed.exists()
    assert not is_immutable(new.path)
    code = (
        "import sys; from pathlib import Path; from notfallserver.server.pool.store import Pool;"
        "Pool(Path(sys.argv[1]), protect=sys.argv[2] == 'yes').sweep()"
    )
    line: list[str | Path] = ["/usr/bin/env", sys.executable, "-c", code, store.paths.root.parent]
    run([*line, "yes"])
    assert_protected(store)
    assert not doomed.exists() and [one.stamp for one in store.versions()] == [new.stamp]
    run([*line, "no"])  # by the settings it is not wanted any more
    assert not is_immutable(new.path) and not is_immutable(new.raw(0))
    crashed.__exit__(None, None, None)


def test_the_server_itself_removes_protected_versions(store: PrimaryStore, pool: Pool) -> None:
    new, old = store.versions()
    expected = Accounts(pool.root).alone({"": files_of(store, old.stamp)})[""]
    assert expected >= UNIT
    store.remove_version(old.stamp)
    assert not old.path.exists() and list(store.paths.versions.iterdir()) == [new.path]
    with pytest.raises(NotfallError) as unknown:
        store.remove_version(old.stamp)
    assert unknown.value.code == "unknown-version"
    Pool(pool.root, protect=True).remove_primary(store.uuid)
    assert list(pool.root.iterdir()) == []
