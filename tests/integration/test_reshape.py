"""Versions on disks of other sizes: real tables and filesystems, and an index that tells the truth.

The appliance's program is called here on loop devices; the machine around it is the same in all its
tasks, and is tested with them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from agent_receiver import command, loop_device

from notfall_lab.pool_image import index_image
from notfallserver.guest.larger import grow_disks
from notfallserver.rescue.reshape import measure, reshape
from notfallserver.server.host.clone import clone_file, differing_blocks
from notfallserver.server.host.mount import unmount_image
from notfallserver.server.pool.incoming import seal_directory, utc_now
from notfallserver.server.pool.index import Index, hash_index
from notfallserver.server.pool.reshaped import (
    Reshaping,
    drop_reshaped,
    find_reshaped,
    last_reshaped,
)
from notfallserver.server.pool.setup import prepare_pool
from notfallserver.server.pool.store import Pool, PrimaryStore
from notfallserver.server.pool.version import DiskImage, Manifest, Version
from notfallserver.wire.blocks import BLOCK, hash_block
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

MIB = 1 << 20
Made = Mapping[int, str]
"""Partition number -> kind of filesystem; 0: the whole disk."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PrimaryStore]:
    place = prepare_pool(tmp_path / "pool", tmp_path / "pool.img", 6 << 30)
    try:
        yield Pool(place.directory).add_primary(str(uuid4()), "shop")
    finally:
        unmount_image(tmp_path / "pool")


@contextmanager
def parted(image: Path) -> Iterator[str]:
    """A loop device with nodes of its partitions, logical ones too."""
    with loop_device(image) as device:
        read_again(device)
        try:
            yield device
        finally:
            subprocess.run(["partx", "-d", device], capture_output=True, check=False)


def read_again(device: str) -> None:
    subprocess.run(["partx", "-d", device], capture_output=True, check=False)
    subprocess.run(["partx", "-a", device], capture_output=True, check=False)


def node(device: str, number: int) -> str:
    return f"{device}p{number}" if number else device


def files_of(device: str, where: Path) -> dict[str, bytes]:
    """Every file with its content; extended attributes and owner in the same breath."""
    with mounted(device, where):
        found = {}
        for path in sorted(where.rglob("*")):
            if path.is_file():
                told = path.stat()
                mark = os.getxattr(path, "user.mark") if "user.mark" in os.listxattr(path) else b""
                head = f"{told.st_uid} {told.st_mode:o} {told.st_nlink} ".encode()
                found[str(path.relative_to(where))] = head + mark + path.read_bytes()
        return found


@contextmanager
def mounted(device: str, where: Path) -> Iterator[None]:
    where.mkdir(exist_ok=True)
    command("mount", device, where)
    try:
        yield
    finally:
        command("umount", where)


def fill(device: str, where: Path) -> None:
    with mounted(device, where):
        (where / "shop").mkdir()
        for at in range(12):
            (where / f"shop/order-{at}").write_bytes(os.urandom(MIB))
        # what lies at the very end must come along, too
        for at in range(0, 12, 2):
            (where / f"shop/order-{at}").unlink()
        (where / "shop/last").write_bytes(os.urandom(3 * MIB + 7))
        os.link(where / "shop/last", where / "shop/same")
        os.setxattr(where / "shop/last", "user.mark", b"kept")
        os.chown(where / "shop/order-1", 33, 33)


def make_version(
    store: PrimaryStore, folder: Path, disks: Sequence[tuple[float, str, Made]]
) -> Version:
    """Disks of (MiB, table, filesystems), all with files, sealed as a version."""
    incoming = store.paths.incoming
    incoming.mkdir()
    images: list[DiskImage] = []
    for at, (size, table, made) in enumerate(disks):
        raw = incoming / f"disk{at}.raw"
        with raw.open("xb") as stream:
            stream.truncate(int(size * MIB))
        if table:
            command("sfdisk", "-q", raw, input=table)
        with raw.open("r+b") as stream:
            if table:
                stream.write(b"GRUB" * 110)  # boot code
                stream.seek(600 * 1024)
                stream.write(b"core of the boot loader")
        with parted(raw) as device:
            for number, kind in made.items():
                place = node(device, number)
                if kind == "swap":
                    command("mkswap", "-L", "swap", place)
                else:
                    force = "-F" if kind == "ext4" else "-f"
                    command(f"mkfs.{kind}", "-q", force, "-L", f"{kind}{at}", place)
                    fill(place, folder / "mount")
        images.append(index_image(at, raw))
    machine = Machine(
        "shop", disks=[Disk(f"vd{'abc'[at]}", int(s * MIB)) for at, (s, _, _) in enumerate(disks)]
    )
    stamp = store.fresh_stamp()
    return seal_directory(
        store.paths,
        Manifest(
            *(store.uuid, "shop", stamp, "capture", "filesystem", "", machine, tuple(images)),
            started_at=utc_now(),
            sealed_at=utc_now(),
        ),
    )


def make_reshaped(store: PrimaryStore, version: Version, shape: list[dict[str, Any]]) -> Version:
    """As the server does it, but for the machine around the appliance's program."""
    last = last_reshaped(store, shape)
    with Reshaping(store, version, shape, last) as making, ExitStack() as stack:
        changed = making.changed()
        sources = [stack.enter_context(parted(one)) for one in making.sources]
        targets = [stack.enter_context(parted(making.image(at))) for at in changed]
        job = {
            "machine": version.manifest.machine.to_json(),
            "sources": len(sources),
            "targets": [shape[at]["sources"] for at in changed],
        }
        told = reshape(job, [*sources, *targets], read_again)
        stack.close()
        pieces = making.compose(dict(zip(changed, told, strict=True)))
        return making.seal(pieces, lambda done, total: None)


def check_index(version: Version) -> None:
    for disk in version.manifest.disks:
        assert version.raw(disk.index).stat().st_size == disk.size
        with Index(version.idx(disk.index)) as index, version.raw(disk.index).open("rb") as raw:
            wrong = [n for n in range(index.blocks) if hash_block(raw.read(BLOCK)) != index[n]]
        assert wrong == []
        assert hash_index(version.idx(disk.index)) == disk.index_hash


ROOT = "label: dos\nsize=700MiB, type=83, bootable\ntype=82\n"
LOGICAL = "label: dos\nsize=100MiB, type=83, bootable\ntype=5\nsize=700MiB, type=83\ntype=82\n"
GPT = 'label: gpt\nsize=64MiB, type=U\nsize=600MiB, type=L, name="a root"\ntype=S\n'


@pytest.mark.parametrize(
    ("size", "table", "made", "smaller"),
    [
        (900, ROOT, {1: "ext4", 2: "swap"}, 600),
        (1000, LOGICAL, {1: "ext4", 5: "ext4", 6: "swap"}, 700),
        (800, GPT, {2: "btrfs", 3: "swap"}, 680),
        (800, GPT, {2: "xfs", 3: "swap"}, 680),
        (700, "", {0: "ext4"}, 400),
    ],
    ids=["ext4", "logical", "btrfs", "xfs", "whole-disk"],
)
def test_a_smaller_disk_takes_all_files(
    store: PrimaryStore, tmp_path: Path, size: int, table: str, made: Made, smaller: int
) -> None:
    version = make_version(store, tmp_path, [(size, table, made)])
    before = {}
    with parted(version.raw(0)) as device:
        for number, kind in made.items():
            if kind != "swap":
                before[number] = files_of(node(device, number), tmp_path / "mount")
    again = store.version(version.stamp)
    shape = [{"sources": [0], "size": smaller * MIB}]
    assert find_reshaped(store, version.stamp, shape) is None
    # mounting wrote to the version's file, so its index is made anew
    index_anew(again)
    done = make_reshaped(store, again, shape)
    check_index(done)
    found = find_reshaped(store, version.stamp, shape)
    assert found is not None and found.manifest.disks == done.manifest.disks
    assert find_reshaped(store, version.stamp, [{"sources": [0], "size": 1 * MIB}]) is None
    with parted(done.raw(0)) as device:
        for number, kind in made.items():
            place = node(device, number)
            if kind == "swap":
                assert command("blkid", "-p", "-s", "LABEL", "-o", "value", place).strip() == "swap"
                continue
            assert files_of(place, tmp_path / "mount") == before[number]
            if kind == "ext4":
                command("e2fsck", "-fn", place)
        # and what was made smaller can be grown where it lands on a larger disk
        if table:
            verify_table(device, "gpt" in table)
    head = done.raw(0).read_bytes()[:MIB]
    if table:
        assert head.startswith(b"GRUB" * 110) and b"core of the boot loader" in head
    assert sorted(one.name for one in done.path.iterdir()) == [
        *("disk0.idx", "disk0.raw", "reshaped.json"),
    ]
    drop_reshaped(store)
    assert not list(store.paths.reshaped.iterdir())


def index_anew(version: Version) -> None:
    for disk in version.manifest.disks:
        version.idx(disk.index).unlink()
        index_image(disk.index, version.raw(disk.index))


def verify_table(device: str, gpt: bool) -> None:
    if gpt:
        assert "No problems found" in command("sgdisk", "-v", device)
    else:
        command("sfdisk", "-V", device)


def test_the_next_round_of_a_copied_filesystem_has_little_to_send(
    store: PrimaryStore, tmp_path: Path
) -> None:
    version = make_version(store, tmp_path, [(800, GPT, {2: "xfs", 3: "swap"})])
    shape = [{"sources": [0], "size": 680 * MIB}]
    first = make_reshaped(store, version, shape)
    second = next_version(store, version)
    with parted(second.raw(0)) as device:
        with mounted(node(device, 2), tmp_path / "mount"):
            (tmp_path / "mount/shop/order-3").unlink()
            with (tmp_path / "mount/shop/order-1").open("r+b") as order:
                told = order.read(4)
                order.seek(0)
                # the same length and, as a copy must not trust it, the same time
                order.write(bytes(255 - one for one in told))
            os.utime(tmp_path / "mount/shop/order-1", (1, 1))
            (tmp_path / "mount/shop/new").write_bytes(b"new")
        before = files_of(node(device, 2), tmp_path / "mount")
    index_anew(second)
    done = make_reshaped(store, second, shape)
    check_index(done)
    with parted(done.raw(0)) as device:
        assert files_of(node(device, 2), tmp_path / "mount") == before
    with Index(first.idx(0)) as old, Index(done.idx(0)) as new:
        differing = sum(old[number] != new[number] for number in range(new.blocks))
    assert 0 < differing < 40 and new.blocks > 10000


def test_nothing_of_an_earlier_round_is_left_where_there_are_holes_now(
    store: PrimaryStore, tmp_path: Path
) -> None:
    """The earlier copy's place was told wrongly here, as it may be when sizes change."""
    version = make_version(store, tmp_path, [(100, "label: dos\n", {})])
    shape = [{"sources": [0], "size": 50 * MIB}]
    place = {"disk": 0, "from": 10 * MIB, "to": 10 * MIB, "size": 20 * MIB, "how": "copied"}
    told = {"label": "dos", "first": MIB, "places": [place]}
    with Reshaping(store, version, shape) as making:
        with making.image(0).open("r+b") as image:
            image.seek(10 * MIB)
            image.write(os.urandom(20 * MIB))
        first = making.seal(making.compose({0: told}), lambda done, total: None)
    second = next_version(store, version)
    with Reshaping(store, second, shape, first) as making:
        with making.image(0).open("rb") as image:
            image.seek(10 * MIB)
            assert any(image.read(MIB))
        told["places"] = [{**place, "how": "kept"}]
        done = making.seal(making.compose({0: told}), lambda done, total: None)
    check_index(done)
    assert not any(done.raw(0).read_bytes()[10 * MIB :])


def next_version(store: PrimaryStore, base: Version) -> Version:
    """A capture of the same disks."""
    incoming = store.paths.incoming
    incoming.mkdir()
    for disk in base.manifest.disks:
        for path in (base.raw(disk.index), base.idx(disk.index)):
            clone_file(path, incoming / path.name)
    return seal_directory(store.paths, replace(base.manifest, stamp=store.fresh_stamp()))


def test_two_disks_go_onto_one_and_grow_there(store: PrimaryStore, tmp_path: Path) -> None:
    disks: list[tuple[float, str, Made]] = [
        (500, "label: dos\nsize=400MiB, type=83, bootable\ntype=82\n", {1: "ext4", 2: "swap"}),
        (400, "", {0: "xfs"}),
        (300, "label: gpt\ntype=L\n", {1: "ext4"}),
    ]
    version = make_version(store, tmp_path, disks)
    before = []
    for at, number in ((0, 1), (1, 0), (2, 1)):
        with parted(version.raw(at)) as device:
            before.append(files_of(node(device, number), tmp_path / "mount"))
    index_anew(version)
    size = 1500 * MIB
    done = make_reshaped(store, version, [{"sources": [0, 1, 2], "size": size}])
    check_index(done)
    assert [one.size for one in done.manifest.disks] == [size]
    target = tmp_path / "target.raw"
    shutil.copyfile(done.raw(0), target)
    with parted(target) as device:
        verify_table(device, gpt=False)
        after = [files_of(node(device, one), tmp_path / "mount") for one in (1, 3, 4)]
        assert after == before
        told = grow_disks([device], [size], Machine("shop"), read_again)
        assert len(told) == 1 and "partition 4 grown" in told[0]
        assert [files_of(node(device, one), tmp_path / "mount") for one in (1, 3, 4)] == before
        assert grow_disks([device], [size], Machine("shop"), read_again) == []


def test_what_does_not_fit_is_refused_with_figures_and_leaves_nothing(
    store: PrimaryStore, tmp_path: Path
) -> None:
    version = make_version(store, tmp_path, [(900, ROOT, {1: "ext4", 2: "swap"})])
    with parted(version.raw(0)) as device:
        least = measure([device])
    assert [(one["disk"], one["partition"]) for one in least] == [(0, 1)]
    assert 50 * MIB < least[0]["least"] < 300 * MIB
    with pytest.raises(NotfallError) as caught:
        make_reshaped(store, version, [{"sources": [0], "size": 300 * MIB}])
    assert caught.value.code == "contents-do-not-fit" and "GiB" in caught.value.cause
    assert not list(store.paths.reshaped.iterdir())


def test_one_disk_of_two_is_written_as_it_is(store: PrimaryStore, tmp_path: Path) -> None:
    """As for a mirror, of which one member is brought back."""
    size = 30 * MIB + 512  # the backup of the table lies in the last, short block
    version = make_version(
        store, tmp_path, [(20, "label: dos\n", {}), (size / MIB, "label: gpt\n", {})]
    )
    shape = [{"sources": [1], "size": size}]
    done = make_reshaped(store, version, shape)
    check_index(done)
    assert done.raw(0).read_bytes() == version.raw(1).read_bytes()
    assert differing_blocks(done.raw(0), version.raw(1), size) == []  # it shares all
    # a start removes what has no seal, and only that
    (store.paths.reshaped / "20260101T000000.000Z").mkdir()
    store.sweep()
    assert [one.name for one in store.paths.reshaped.iterdir()] == [version.stamp]


def test_an_answer_that_would_take_other_bytes_is_refused(
    store: PrimaryStore, tmp_path: Path
) -> None:
    version = make_version(store, tmp_path, [(100, "label: dos\n", {})])
    shape = [{"sources": [0], "size": 50 * MIB}]
    place = {"disk": 0, "from": MIB, "to": MIB, "size": 10 * MIB, "how": "kept"}
    for wrong in (
        {**place, "disk": 1},
        {**place, "from": -MIB},
        {**place, "to": 45 * MIB},
        {**place, "from": 95 * MIB},
        {**place, "to": 0},
        {**place, "size": "x"},
    ):
        with Reshaping(store, version, shape) as making, pytest.raises(NotfallError) as caught:
            making.image(0)
            making.compose({0: {"label": "dos", "first": MIB, "places": [wrong]}})
        assert caught.value.code == "bad-answer"
