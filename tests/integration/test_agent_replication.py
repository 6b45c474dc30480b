"""Replication of real disks (loop devices) into the real pool; needs root."""

from __future__ import annotations

import json
import mmap
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from agent_receiver import (
    Receiver,
    command,
    loop_device,
    mounted,
    packed_agent,
    partition,
)

from notfallserver.agent.changes import ledger
from notfallserver.agent.changes.base import marked_runs
from notfallserver.agent.changes.none import Unknown
from notfallserver.agent.disks.direct import DirectDisk
from notfallserver.agent.disks.linux import machine_facts, protected_disks
from notfallserver.agent.disks.mounts import Mount
from notfallserver.agent.disks.runs import free_runs
from notfallserver.agent.disks.used import Census
from notfallserver.agent.moment import FrozenBuffer
from notfallserver.agent.run import Outcome
from notfallserver.agent.service import Service
from notfallserver.agent.stop import Stop
from notfallserver.server.pool.index import Index
from notfallserver.wire.blocks import BLOCK, HOLE, Run
from notfallserver.wire.errors import NotfallError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

MIB = 1 << 20
MBR = "label: dos\nsize=260M, type=83, bootable\nsize=40M, type=ef\ntype=82\n"
NEW_EXT4 = ("-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0")
"""Complete at once: the kernel would otherwise write on its own for a while."""
GPT = "label: gpt\nsize=150M, type=linux\n"


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


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with ExitStack() as cleanup:
        yield Machine(tmp_path, cleanup)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    (tmp_path / "server").mkdir()
    receiver = Receiver(tmp_path / "server")
    yield receiver
    receiver.close()


@pytest.fixture
def agent(machine: Machine, receiver: Receiver) -> Iterator[Service]:
    receiver.settings(machine.disks)
    service = Service(receiver.config, Stop())
    yield service
    service.close()


class Records:
    """A writer of numbered records into both filesystems: first main, then data, each synced."""

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


def test_versions_under_load_are_whole_and_equal_to_the_frozen_disks(
    machine: Machine, receiver: Receiver, agent: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three runs while records are written; the last one against a copy made while frozen."""
    copies = [machine.root / "frozen0.raw", machine.root / "frozen1.raw"]
    read_frozen = FrozenBuffer.read

    def read_and_copy(self: FrozenBuffer, wanted: list[list[Run]]) -> None:
        read_frozen(self, wanted)
        for device, copy in zip(machine.disks, copies, strict=True):
            command("dd", f"if={device}", f"of={copy}", "bs=1M", "iflag=direct", "status=none")

    files = {
        f"{name}/file{number}": (place / f"file{number}").read_bytes()
        for name, place in (("main", machine.main), ("data", machine.data))
        for number in range(3, 6)
    }
    with Records(machine) as records:
        time.sleep(0.3)
        outcomes = [agent.replicate()]
        (machine.main / "file0").unlink()
        (machine.efi / "file1").unlink()
        (machine.efi / "new").write_bytes(os.urandom(MIB))
        outcomes.append(agent.replicate())
        monkeypatch.setattr(FrozenBuffer, "read", read_and_copy)
        outcomes.append(agent.replicate())
    assert [one.read_all for one in outcomes] == [True, False, False]
    assert {one.consistency for one in outcomes} == {"filesystem"}
    counts = check_version(receiver, machine, files)
    assert 0 < counts[0] <= records.count
    assert counts[1] in (counts[0], counts[0] - 1)  # both at one point in time

    for disk, copy in enumerate(copies):
        with Index(receiver.image(disk).with_suffix(".idx")) as index:
            used = [one for one in range(index.blocks) if index[one] != HOLE]
            assert used
            with copy.open("rb") as real, receiver.image(disk).open("rb") as image:
                assert os.fstat(real.fileno()).st_size == os.fstat(image.fileno()).st_size
                for number in used:
                    real.seek(number * BLOCK)
                    image.seek(number * BLOCK)
                    assert real.read(BLOCK) == image.read(BLOCK), f"block {number} of disk {disk}"
            holes = index.blocks - len(used)
        assert holes > index.blocks // 4


def test_a_second_run_reads_and_sends_only_what_changed(
    machine: Machine, receiver: Receiver, agent: Service
) -> None:
    first = agent.replicate()
    assert first.read_all
    assert first.bytes_read > 60 * MIB
    quiet = agent.replicate()
    assert not quiet.read_all
    assert quiet.bytes_read < 12 * MIB
    assert quiet.bytes_sent < MIB
    with (machine.main / "file4").open("r+b") as stream:
        stream.seek(MIB)
        stream.write(os.urandom(MIB))
    delta = agent.replicate()
    assert MIB < delta.bytes_sent < 3 * MIB
    assert delta.bytes_read < 16 * MIB
    check_version(receiver, machine, {"main/file4": (machine.main / "file4").read_bytes()})


def test_deleted_files_become_holes(machine: Machine, receiver: Receiver, agent: Service) -> None:
    agent.replicate()
    before = receiver.image(0).stat().st_blocks * 512
    for number in range(6):
        (machine.main / f"file{number}").unlink()
    agent.replicate()
    assert before - receiver.image(0).stat().st_blocks * 512 > 20 * MIB
    check_version(receiver, machine, {"main/file7": (machine.main / "file7").read_bytes()})


def test_a_mounted_fat_tells_its_free_clusters(machine: Machine) -> None:
    """Also where this machine's kernel has no vfat: the table is read from the disk."""
    disk = protected_disks([machine.one])[0]
    volume = disk.volumes[1]
    direct = DirectDisk(disk)
    census = Census([direct], [Mount(volume.device, str(machine.efi), "vfat", True)])
    try:
        free = free_runs(disk.size, census.free_space()[0])
    finally:
        census.close()
        direct.close()
    inside = [one for one in free if volume.start < one[0] * BLOCK < volume.start + volume.size]
    assert 20 * MIB < sum(count for _, count in inside) * BLOCK < volume.size


def test_facts_tell_what_lies_on_the_disks(machine: Machine) -> None:
    one, two = machine_facts(protected_disks(machine.disks)).disks
    assert (one.table, two.table) == ("dos", "gpt")
    assert [part.filesystem for part in one.partitions] == ["ext4", "vfat", "swap"]
    assert one.partitions[0].kind == "0x83"
    assert one.partitions[0].start == MIB
    assert one.partitions[0].mountpoint == str(machine.main)
    assert two.partitions[0].kind == "0fc63daf-8483-4772-8e79-3d69d8477de4"
    assert len(two.partitions[0].part_uuid) == len(two.partitions[0].uuid) == 36


def test_without_tracker_everything_is_compared_while_frozen(
    machine: Machine, receiver: Receiver, agent: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notfallserver.agent.service.watch", lambda _: Unknown("test"))
    with Records(machine):
        outcomes = [agent.replicate(), agent.replicate()]
    assert all(one.read_all and one.consistency == "filesystem" for one in outcomes)
    assert outcomes[1].bytes_sent < 20 * MIB
    counts = check_version(receiver, machine, {})
    assert counts[1] in (counts[0], counts[0] - 1)


def test_without_tracker_a_freeze_that_would_last_too_long_is_refused(
    machine: Machine, receiver: Receiver, agent: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notfallserver.agent.service.watch", lambda _: Unknown("test"))
    receiver.settings(machine.disks, freeze_seconds=1)
    slow = FrozenBuffer.compare

    def compare(self: FrozenBuffer, *rest: object) -> None:
        time.sleep(2)  # a slow disk
        slow(self, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(FrozenBuffer, "compare", compare)
    service = Service(receiver.config, Stop())
    with pytest.raises(NotfallError) as caught:
        service.replicate()
    assert caught.value.code == "not-consistent"
    assert receiver.failures[0]["code"] == "not-consistent"
    assert receiver.store.newest() is None


def _direct(path: str, offset: int) -> None:
    handle = os.open(path, os.O_RDWR | os.O_DIRECT)
    with mmap.mmap(-1, 4096) as buffer:
        buffer.write(os.urandom(4096))
        os.pwrite(handle, buffer, offset)
    os.close(handle)


def _mapped(path: Path) -> None:
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as memory:
        memory[MIB : MIB + 100] = os.urandom(100)
        memory.flush()


def test_the_tracker_sees_every_kind_of_write(machine: Machine) -> None:
    disks = protected_disks(machine.disks)
    changes = ledger.watch(disks)
    assert changes.knows
    swap = disks[0].volumes[2]
    behind = disks[1].volumes[0].start + disks[1].volumes[0].size + MIB
    os.sync()

    def file_blocks(path: Path) -> set[int]:
        command("sync", path)
        told = command("filefrag", "-b512", "-e", path).splitlines()
        start = disks[0].volumes[0].start
        line = next(one for one in told if one.strip().startswith("0:"))
        return {(start + int(line.split(":")[2].split("..")[0]) * 512) // BLOCK}

    def write_file() -> None:
        with (machine.main / "file1").open("r+b") as stream:
            stream.write(b"changed")
            stream.flush()
            os.fsync(stream.fileno())

    target = machine.main / "file2"
    ways: list[tuple[Callable[[], object], int, set[int]]] = [
        (write_file, 0, file_blocks(machine.main / "file1")),
        (lambda: _direct(str(target), 0), 0, file_blocks(target)),
        (lambda: _mapped(target), 0, {next(iter(file_blocks(target))) + MIB // BLOCK}),
        (lambda: _direct(f"{machine.one}p3", 5 * MIB), 0, {(swap.start + 5 * MIB) // BLOCK}),
        (lambda: _direct(machine.two, behind), 1, {behind // BLOCK}),
        (
            lambda: command(
                "dd",
                "if=/dev/zero",
                f"of={machine.one}p3",
                "bs=1M",
                "count=3",
                "conv=fsync",
                stderr=subprocess.DEVNULL,
            ),
            0,
            set(range(-(-swap.start // BLOCK), (swap.start + 3 * MIB) // BLOCK)),
        ),
        (
            lambda: command("blkdiscard", "-f", "-o", 0, "-l", 30 * MIB, f"{machine.one}p3"),
            0,
            set(range(-(-swap.start // BLOCK), (swap.start + 30 * MIB) // BLOCK)),
        ),
    ]
    try:
        changes.take()
        changes.take()
        for number, (write, disk, expected) in enumerate(ways):
            write()
            for _ in range(2):  # each mark is told twice
                marks = changes.take()
                found = {
                    b
                    for first, count in marked_runs(marks[disk])
                    for b in range(first, first + count)
                }
                assert expected <= found, f"way {number}"
            os.sync()
        changes.take()
        changes.take()
        assert not any(marked_runs(one) for one in changes.take())
        assert changes.broken() == ""
    finally:
        changes.close()


def test_cut_connections_are_tried_again(
    machine: Machine, receiver: Receiver, agent: Service
) -> None:
    def cut() -> None:
        while len(receiver.log) < 10:
            time.sleep(0.01)
        receiver.fail_next = 12

    thread = threading.Thread(target=cut)
    thread.start()
    outcome = agent.replicate()
    thread.join()
    assert receiver.fail_next == 0
    assert outcome.version == receiver.image().parent.name
    check_version(receiver, machine, {"main/file3": (machine.main / "file3").read_bytes()})


def test_a_cancelled_run_ends_and_leaves_no_version(
    machine: Machine, receiver: Receiver, agent: Service
) -> None:
    def cancel() -> None:
        run = None
        while run is None:
            run = receiver.runs.of_primary(receiver.uuid)
            time.sleep(0.005)
        run.cancelled = True

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(NotfallError) as caught:
        agent.replicate()
    thread.join()
    assert caught.value.code == "cancelled"
    assert receiver.store.newest() is None


def test_another_layout_voids_what_was_tracked(
    machine: Machine, receiver: Receiver, agent: Service
) -> None:
    agent.replicate()
    command("partx", "-d", "--nr", "3", machine.one)
    assert agent.replicate().read_all


# -- the shipped program -------------------------------------------------------------------------


@pytest.fixture
def program(machine: Machine, receiver: Receiver, tmp_path: Path) -> Path:
    receiver.settings(machine.disks)
    return packed_agent(tmp_path / "agent.pyz")


def start(program: Path, receiver: Receiver, command_name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, program, command_name, "--config", receiver.config],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.005)


def test_the_service_works_on_order_and_continues_what_was_killed(
    machine: Machine, receiver: Receiver, program: Path
) -> None:
    service = start(program, receiver, "run")
    try:
        until(lambda: "poll" in receiver.log)
        receiver.orders.append("replicate")
        until(lambda: receiver.blocks_bytes > 20 * MIB)
    finally:
        service.kill()
        service.wait()
    sent = receiver.blocks_bytes
    service = start(program, receiver, "run")
    try:
        receiver.orders.append("replicate")
        until(lambda: len(receiver.seals) == 1)
        receiver.orders.append("replicate")
        until(lambda: len(receiver.seals) == 2)
    finally:
        service.terminate()
        assert service.wait(20) == 0
    assert [one["read_all"] for one in receiver.seals] == [True, False]
    assert receiver.seals[0]["bytes_sent"] < 90 * MIB - sent * 0.8
    check_version(receiver, machine, {"main/file3": (machine.main / "file3").read_bytes()})


def test_a_stand_in_never_replicates(machine: Machine, receiver: Receiver, program: Path) -> None:
    (receiver.config / "role").write_text("stand-in\n")
    receiver.orders.append("replicate")
    service = start(program, receiver, "run")
    try:
        until(lambda: receiver.log.count("poll") > 3)
    finally:
        service.terminate()
        assert service.wait(20) == 0
    assert set(receiver.log) == {"poll"}


INSTALL = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from notfallserver.agent.install import Wish, install
from notfallserver.wire.errors import NotfallError
program, url, token, ca, disk, target = sys.argv[1:]
try:
    target = Path(target)
    print(install(Wish(url, token, Path(ca), [disk], False, target / "etc", target / "agent.pyz")))
except NotfallError as error:
    sys.exit(error.code)
"""


def test_installing_takes_a_valid_token_once_and_keeps_secrets(
    machine: Machine, receiver: Receiver, program: Path, tmp_path: Path
) -> None:
    def try_token(token: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                sys.executable,
                "-c",
                INSTALL,
                program,
                receiver.url,
                token,
                receiver.config / "ca.pem",
                machine.one,
                tmp_path / "target",
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert "bad-token" in try_token("wrong").stderr
    assert not (tmp_path / "target").exists()
    assert try_token("right").stdout.strip() == receiver.uuid
    assert "bad-token" in try_token("right").stderr
    files = tmp_path / "target" / "etc"
    assert {one.name for one in files.iterdir()} == {"agent.json", "ca.pem", "cert.pem", "key.pem"}
    assert all(one.stat().st_mode & 0o777 == 0o600 for one in files.iterdir())
    installed = tmp_path / "target" / "agent.pyz"
    told = json.loads(command(sys.executable, installed, "replicate", "--config", files))
    assert told["version"] == receiver.image().parent.name


HOLD = """
import sys, time
from notfallserver.agent.disks.linux import machine_facts, protected_disks
from notfallserver.agent.disks.mounts import current_mounts, to_freeze
from notfallserver.agent.freeze.linux import Freezer
from notfallserver.agent.stop import Stop
stop = Stop()
stop.listen()
disks = protected_disks(sys.argv[2:])
groups = to_freeze(current_mounts(), [one.device for one in disks])
with Freezer(groups, float(sys.argv[1]), stop) as freezer, freezer.hold():
    print("frozen", flush=True)
    end = time.monotonic() + 60
    while time.monotonic() < end and not stop.asked:
        time.sleep(0.01)
"""


def hold(machine: Machine, deadline: float) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(deadline), *machine.disks],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"frozen\n"
    return process


def write_times(machine: Machine) -> list[float]:
    """When a write to each filesystem that froze came back, from now in seconds."""
    began = time.monotonic()
    times = []
    for place in (machine.main, machine.data):
        done = subprocess.Popen(
            ["dd", "if=/dev/zero", f"of={place}/probe", "bs=4k", "count=1"],
            stderr=subprocess.DEVNULL,
        )
        done.wait(30)
        times.append(time.monotonic() - began)
    return times


@pytest.mark.parametrize("how", ["kill", "term", "deadline"])
def test_nothing_stays_frozen(machine: Machine, how: str) -> None:
    process = hold(machine, 2 if how == "deadline" else 60)
    try:
        if how == "deadline":
            assert 0.5 < write_times(machine)[0] < 5
            return
        blocked = subprocess.Popen(["touch", machine.main / "blocked"])
        time.sleep(0.5)
        assert blocked.poll() is None  # it really is frozen
        process.send_signal(signal.SIGKILL if how == "kill" else signal.SIGTERM)
        assert max(write_times(machine)) < 3
        assert blocked.wait(5) == 0
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_freeze_by_somebody_else_is_respected(
    machine: Machine, receiver: Receiver, agent: Service
) -> None:
    command("fsfreeze", "-f", machine.main)
    try:
        with pytest.raises(NotfallError) as caught:
            agent.replicate()
        assert caught.value.code == "frozen-by-other"
        assert subprocess.run(
            ["fsfreeze", "-f", machine.main], check=False, timeout=10, stderr=subprocess.DEVNULL
        ).returncode  # still theirs
    finally:
        command("fsfreeze", "-u", machine.main)
    outcome: Outcome = agent.replicate()
    assert outcome.version
