"""Other storage than ext4 in partitions: what is copied, and what is refused before it begins."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import pytest
from agent_receiver import Receiver, command, loop_device, mounted, partition
from source_machine import MIB

from notfallserver.agent.service import Service
from notfallserver.agent.stop import Stop
from notfallserver.wire.errors import NotfallError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SIZE = 600 * MIB
MAKE = {
    "ext4": ("mkfs.ext4", "-q", "-F"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
}
CHECK: dict[str, tuple[object, ...]] = {
    "ext4": ("e2fsck", "-fn"),
    "xfs": ("xfs_repair", "-n"),
    "btrfs": ("btrfs", "check", "--readonly"),
}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Writer:
    """Appends to a file and syncs it, until the block ends.

    At most 2 MB/s, so that on a fast machine it does not write more than the tests' files hold.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        with (self._place / "growing").open("wb", 0) as stream:
            while not self._over.wait(0.01):
                stream.write(os.urandom(20_000))
                os.fdatasync(stream.fileno())

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def disk(stack: ExitStack, root: Path, name: str, table: str = "") -> str:
    """A new loop device; with a table in sfdisk's language, or bare."""
    image = root / name
    if table:
        partition(image, SIZE, table)
    else:
        with image.open("wb") as stream:
            stream.truncate(SIZE)
    return stack.enter_context(loop_device(image))


def contents_of(volume: str, place: Path) -> dict[str, str]:
    """The SHA-256 of each file. In a mount namespace of its own: a lab that another worker starts
    just now would inherit the mount, and the filesystem would not be clean afterwards."""
    place.mkdir()
    lines = 'mount "$0" "$1"; cd "$1"; sha256sum $(find -type f); cd /; umount "$1"'
    told = command("unshare", "--mount", "sh", "-ec", lines, volume, place)
    return {name[2:]: digest for digest, name in (line.split() for line in told.splitlines())}


def agent_of(stack: ExitStack, receiver: Receiver, *disks: str) -> Service:
    receiver.settings(list(disks))
    service = Service(receiver.config, Stop())
    stack.callback(service.close)
    return service


@pytest.mark.parametrize("table", ["label: gpt\nsize=500M, type=linux\n", ""])
@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_a_filesystem_in_a_partition_and_on_the_bare_disk(
    receiver: Receiver, stack: ExitStack, tmp_path: Path, kind: str, table: str
) -> None:
    device = disk(stack, tmp_path, "disk.img", table)
    volume = f"{device}p1" if table else device
    command(*MAKE[kind], volume)
    files = {f"file{number}": os.urandom(5 * MIB + number) for number in range(8)}
    with ExitStack() as in_use:
        place = in_use.enter_context(mounted(volume, tmp_path / "source"))
        for name, content in files.items():
            (place / name).write_bytes(content)
        agent = agent_of(in_use, receiver, device)
        with Writer(place):
            first = agent.replicate()
            del files["file0"]
            (place / "file0").unlink()
            files["file1"] = os.urandom(MIB)
            (place / "file1").write_bytes(files["file1"])
            second = agent.replicate()
        assert (first.consistency, second.consistency) == ("filesystem", "filesystem")
        assert (first.read_all, second.read_all) == (True, False)
        assert second.bytes_sent < first.bytes_sent / 2
    # The source is unmounted now: Btrfs must not see two filesystems with the same UUID.
    image = receiver.image()
    assert image.stat().st_blocks * 512 < SIZE // 2  # what is free is a hole
    copy = tmp_path / "copy.img"
    command("cp", "--sparse=always", image, copy)
    with loop_device(copy) as again:
        part = f"{again}p1" if table else again
        found = contents_of(part, tmp_path / "copy")  # XFS replays its log
        assert "file0" not in found
        for name, content in files.items():
            assert found[name] == sha256(content).hexdigest(), name
        command(*CHECK[kind], part)


def test_btrfs_over_two_disks_needs_both(
    receiver: Receiver, stack: ExitStack, tmp_path: Path
) -> None:
    disks = [disk(stack, tmp_path, f"disk{number}.img") for number in range(2)]
    command("mkfs.btrfs", "-q", "-f", "-d", "raid0", "-m", "raid1", *disks)
    command("btrfs", "device", "scan", *disks)
    content = os.urandom(20 * MIB)
    with ExitStack() as in_use:
        place = in_use.enter_context(mounted(disks[0], tmp_path / "source"))
        (place / "file").write_bytes(content)
        for one in disks:
            with pytest.raises(NotfallError) as caught:
                agent_of(in_use, receiver, one).replicate()
            assert caught.value.code == "storage-not-supported"
            assert str(place) in caught.value.cause
            assert receiver.log == []  # before the first byte
        agent_of(in_use, receiver, *disks).replicate()
    for one in disks:
        command("btrfs", "device", "scan", "--forget", one)
    with ExitStack() as copies:
        devices = []
        for index in range(2):
            copy = tmp_path / f"copy{index}.img"
            command("cp", "--sparse=always", receiver.image(index), copy)
            devices.append(copies.enter_context(loop_device(copy)))
        command("btrfs", "check", "--readonly", devices[0])
        command("btrfs", "device", "scan", *devices)
        with mounted(devices[0], tmp_path / "copy") as place:
            assert (place / "file").read_bytes() == content
        command("btrfs", "device", "scan", "--forget")


def test_a_refused_run_is_told_to_the_server(
    receiver: Receiver, stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the next poll, because no run has begun that could end with the error."""
    device = disk(stack, tmp_path, "disk.img")
    agent = agent_of(stack, receiver, device)

    def refuse(*_: object) -> None:
        raise NotfallError("storage-not-supported", "ZFS", "zfs send")

    monkeypatch.setattr("notfallserver.agent.run.check_fitness", refuse)
    with pytest.raises(NotfallError):
        agent.replicate()
    assert agent.first.poll_body(False, False)["failed"]["code"] == "storage-not-supported"
