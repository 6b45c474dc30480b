"""Disks to protect, on loop devices: a machine with filesystems, and one who writes in them."""

from __future__ import annotations

import itertools
import os
import random
import re
import struct
import subprocess
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn, Protocol

import pytest
from agent_receiver import (
    Receiver,
    command,
    loop_device,
    mounted,
    partition,
)

from notfallserver.agent.moment import FrozenBuffer
from notfallserver.server.pool.index import Index
from notfallserver.wire.blocks import BLOCK, HOLE

MIB = 1 << 20
MBR = "label: dos\nsize=260M, type=83, bootable\nsize=40M, type=ef\ntype=82\n"
FIRST_MIB = (260, 150)
"""Of each disk's first partition, which begins at 1 MiB."""
NEW_EXT4 = ("-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0")
"""Complete at once: the kernel would otherwise write on its own for a while."""
GPT = "label: gpt\nsize=150M, type=linux\n"
DIRECT = ("iflag=direct", "conv=sparse", "status=none")
"""As it is on the disk; most of it holds nothing, and is not written while all stands still."""


class Machine:
    """Two disks: MBR with ext4, vfat and swap; GPT with ext4 and unpartitioned space behind."""

    def __init__(self, root: Path, cleanup: ExitStack) -> None:
        self.root = root
        partition(root / "one.img", 340 * MIB + 512 * 9, MBR)
        partition(root / "two.img", 200 * MIB, GPT)
        self.one = cleanup.enter_context(loop_device(root / "one.img"))
        self.two = cleanup.enter_context(loop_device(root / "two.img"))
        command("mkfs.ext4", *NEW_EXT4, f"{self.one}p1")
        command("mkfs.fat", "-F", "16", f"{self.one}p2")
        command("mkswap", f"{self.one}p3")
        command("mkfs.ext4", *NEW_EXT4, "-b", "1024", f"{self.two}p1")
        self.main = cleanup.enter_context(mounted(f"{self.one}p1", root / "main"))
        self.efi = root / "efi"
        self.efi.mkdir()
        if "\tvfat\n" in Path("/proc/filesystems").read_text():  # not in every test machine
            cleanup.enter_context(mounted(f"{self.one}p2", self.efi))
        # Mounted inside the first one, so the order of freezing matters.
        self.data = cleanup.enter_context(mounted(f"{self.two}p1", root / "main" / "data"))
        for place, count in ((self.main, 12), (self.efi, 2), (self.data, 6)):
            for number in range(count):
                (place / f"file{number}").write_bytes(os.urandom(4 * MIB + number * 1000))
        self.disks = [self.one, self.two]


class Records:
    """A writer of numbered records into both filesystems: first main, then data, each synced.

    It writes often, but leaves the processor to those it is to disturb; and slowly when the disks
    fill: a slow test machine must not end a test with a full filesystem.
    """

    fast = 48 * MIB // 5008
    pause_s = (0.003, 0.05)

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.count = 0

    def _write(self) -> None:
        with (
            (self._machine.main / "records").open("wb", 0) as first,
            (self._machine.data / "records").open("wb", 0) as second,
        ):
            while not self._over.is_set():
                record = struct.pack(">Q", self.count) + os.urandom(5000)
                for stream in (first, second):
                    stream.write(record)
                    os.fdatasync(stream.fileno())
                self.count += 1
                self._over.wait(self.pause_s[self.count > self.fast])

    def __enter__(self) -> Records:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @staticmethod
    def read(path: Path) -> list[int]:
        content = path.read_bytes()
        return [
            struct.unpack_from(">Q", content, at)[0]
            for at in range(0, len(content) - len(content) % 5008, 5008)
        ]


class Scatter:
    """A writer of single pages at random places of a file, past the cache and through it."""

    def __init__(self, machine: Machine) -> None:
        self._path = machine.main / "scatter"
        with self._path.open("wb") as stream:
            for _ in range(24):
                stream.write(os.urandom(MIB))
            os.fsync(stream.fileno())
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        places = random.Random(3)
        with self._path.open("r+b", 0) as stream:
            while not self._over.wait(0.008):
                stream.seek(places.randrange(24 * MIB // 4096) * 4096)
                stream.write(os.urandom(4096))
                if places.random() < 0.2:
                    os.fdatasync(stream.fileno())

    def __enter__(self) -> Scatter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def check_version(receiver: Receiver, machine: Machine, files: dict[str, bytes]) -> list[int]:
    """All filesystems of the newest version are whole; returns how many records each has."""
    counts = []
    with ExitStack() as cleanup:
        one = cleanup.enter_context(loop_device(receiver.image(0), "-r"))
        two = cleanup.enter_context(loop_device(receiver.image(1), "-r"))
        for device in (f"{one}p1", f"{two}p1"):
            command("e2fsck", "-fn", device)
        command("fsck.fat", "-n", f"{one}p2")
        command("swaplabel", f"{one}p3")
        for device, name in ((f"{one}p1", "main"), (f"{two}p1", "data")):
            place = machine.root / f"check-{name}"
            cleanup.enter_context(mounted(device, place, "-o", "ro,noload"))
            for file, content in files.items():
                if file.startswith(name):
                    assert (place / file.split("/")[1]).read_bytes() == content
            if (place / "records").exists():
                numbers = Records.read(place / "records")
                assert numbers == list(range(len(numbers)))
                counts.append(len(numbers))
    return counts


def unallocated(disk: Path) -> set[int]:
    """KiB of the disk that the ext4 in its first partition (at 1 MiB) itself calls free.

    Space that the kernel has only reserved for a growing file is free there, but used for
    GETFSMAP: nothing can be seen of its content until it is written.
    """
    with loop_device(disk, "-r") as device:
        told = command("dumpe2fs", f"{device}p1", stderr=subprocess.DEVNULL)
    found = re.search(r"^Block size:\s+(\d+)", told, re.MULTILINE)
    assert found is not None
    factor = int(found[1]) // 1024
    free: set[int] = set()
    for line in re.findall(r"^  Free blocks: (.+)$", told, re.MULTILINE):
        for part in line.split(", "):
            first, _, last = part.partition("-")
            begin, end = int(first) * factor, (int(last or first) + 1) * factor
            free.update(range(1024 + begin, 1024 + end))
    return free


def differing_kib(one: Path, other: Path, blocks: list[int]) -> set[int]:
    """Which KiB of these blocks are not the same in both files."""
    found = set()
    with one.open("rb") as first, other.open("rb") as second:
        assert os.fstat(first.fileno()).st_size == os.fstat(second.fileno()).st_size
        for number in blocks:
            first.seek(number * BLOCK)
            second.seek(number * BLOCK)
            left, right = first.read(BLOCK), second.read(BLOCK)
            if left != right:
                found |= {
                    (number * BLOCK + at) // 1024
                    for at in range(0, BLOCK, 1024)
                    if left[at : at + 1024] != right[at : at + 1024]
                }
    return found


class Disks(Protocol):
    """Some disks, and a directory of the test's own."""

    root: Path
    disks: list[str]


class Copies(list[Path]):
    """Of the disks in the newest frozen moment, and in the one ``before`` it."""

    def __init__(self, machine: Disks) -> None:
        super().__init__()
        self._machine = machine
        self._count = itertools.count()
        self.before: list[Path] = []

    def make(self) -> None:
        number, made = next(self._count) % 3, []
        for disk, device in enumerate(self._machine.disks):
            made.append(self._machine.root / f"frozen{number}-{disk}.raw")
            command("dd", f"if={device}", f"of={made[-1]}", "bs=1M", *DIRECT)
        self.before, self[:] = list(self), made


def copy_while_frozen(machine: Disks, monkeypatch: pytest.MonkeyPatch) -> Copies:
    """From now on each run in this process copies the disks in its frozen moment, to these."""
    copies = Copies(machine)

    def then_copy(done: Callable[..., None]) -> Callable[..., None]:
        def both(self: FrozenBuffer, *rest: object) -> None:
            done(self, *rest)
            copies.make()

        return both

    for name in ("read", "compare"):  # with a tracker, and without
        monkeypatch.setattr(FrozenBuffer, name, then_copy(getattr(FrozenBuffer, name)))
    return copies


def no_tracker(_: object) -> NoReturn:
    raise OSError("a kernel without tracker")


def check_equal(receiver: Receiver, copies: list[Path]) -> None:
    """The newest version is bit for bit what was copied, wherever something is.

    That is where the version claims to hold something, and what the ext4 have allocated.
    """
    for disk, copy in enumerate(copies):
        with Index(receiver.image(disk).with_suffix(".idx")) as index:
            used = {one for one in range(index.blocks) if index[one] != HOLE}
            holes = index.blocks - len(used)
        assert used
        first = range(MIB // BLOCK, (1 + FIRST_MIB[disk]) * MIB // BLOCK)
        differing = differing_kib(copy, receiver.image(disk), sorted(used.union(first)))
        assert differing - unallocated(copy) == set()
        assert holes > index.blocks // 4


def check_one_of(receiver: Receiver, copies: Copies) -> None:
    """As :func:`check_equal`, where a run of another server may have had its moment meanwhile."""
    newest, before = list(copies), copies.before
    try:
        check_equal(receiver, newest)
    except AssertionError:
        check_equal(receiver, before)
