"""Freezing and thawing real filesystems, whatever happens to the one who froze; needs root."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from agent_receiver import (
    Receiver,
    command,
)
from source_machine import Machine

from notfall_lab.patience import PATIENCE_S
from notfallserver.agent import line
from notfallserver.agent.freeze.linux import thaw_leftovers
from notfallserver.agent.moment import FrozenBuffer
from notfallserver.agent.outcome import Outcome
from notfallserver.agent.place import Place
from notfallserver.agent.service import Service
from notfallserver.wire.blocks import Run
from notfallserver.wire.errors import NotfallError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


HOLD = """
import sys, time
from pathlib import Path
from notfallserver.agent.disks.linux import machine_facts, protected_disks
from notfallserver.agent.disks.mounts import current_mounts, to_freeze
from notfallserver.agent.freeze.linux import Freezer
from notfallserver.agent.stop import Stop
greedy = Path(sys.argv[2] + ".greedy")
stop = Stop()
stop.listen()
disks = protected_disks(sys.argv[3:])
groups = to_freeze(current_mounts(), [one.device for one in disks])
with Freezer(groups, float(sys.argv[1]), stop, Path(sys.argv[2])) as freezer, freezer.hold():
    print("frozen", flush=True)
    end = time.monotonic() + 60
    hoard = []
    while time.monotonic() < end and not stop.asked:
        time.sleep(0.01)
        if greedy.exists():
            hoard.append(b"x" * (16 << 20))
"""


def hold(machine: Machine, deadline: float, *before: object) -> subprocess.Popen[bytes]:
    holder = [sys.executable, "-c", HOLD, str(deadline), machine.root / "note", *machine.disks]
    process = subprocess.Popen(
        [str(one) for one in (*before, *holder)],
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
        done.wait(PATIENCE_S)
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
        assert blocked.wait(30) == 0  # the one that froze would thaw after 60 s
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@contextmanager
def little_memory(name: str, limit: int) -> Iterator[Path]:
    """A control group whose processes get no more memory than ``limit`` bytes: cgroup v1 or v2."""
    old = Path("/sys/fs/cgroup/memory")
    group = (old if old.is_dir() else Path("/sys/fs/cgroup")) / name
    if not old.is_dir():
        (group.parent / "cgroup.subtree_control").write_text("+memory")
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if old.is_dir() else "memory.max")).write_text(str(limit))
        yield group / "cgroup.procs"
    finally:
        end = time.monotonic() + 10
        while (group / "cgroup.procs").read_text().strip() and time.monotonic() < end:
            time.sleep(0.05)
        group.rmdir()


def test_nothing_stays_frozen_when_memory_runs_out(machine: Machine) -> None:
    with little_memory(f"notfall-test-{os.getpid()}", 256 << 20) as members:
        process = hold(machine, 60, "sh", "-c", f'echo $$ >{members}; exec "$@"', "sh")
        try:
            (machine.root / "note.greedy").touch()
            assert process.wait(PATIENCE_S) == -signal.SIGKILL  # by the kernel
            assert max(write_times(machine)) < 3
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def test_nothing_waits_for_a_server_that_is_gone_while_frozen(
    machine: Machine, receiver: Receiver, agent: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the frozen moment on every connection is cut, as if the server or the line had died."""
    read_frozen = FrozenBuffer.read

    def read_and_cut(self: FrozenBuffer, wanted: list[list[Run]]) -> None:
        receiver.fail_next = 1 << 30
        read_frozen(self, wanted)

    monkeypatch.setattr(FrozenBuffer, "read", read_and_cut)
    monkeypatch.setattr(line, "PATIENCE", 3.0)
    failed: list[NotfallError] = []

    def replicate() -> None:
        try:
            agent.replicate()
        except NotfallError as error:
            failed.append(error)

    thread = threading.Thread(target=replicate)
    thread.start()
    while not receiver.fail_next:
        assert thread.is_alive()
        time.sleep(0.005)
    assert max(write_times(machine)) < 3
    assert thread.is_alive()  # it still tries to reach the server, and nothing is frozen
    thread.join()
    assert [error.code for error in failed] == ["server-unreachable"]
    assert not receiver.store.versions()
    monkeypatch.undo()
    receiver.fail_next = 0
    assert agent.replicate().version


def test_an_agent_thaws_only_what_its_own_note_names(machine: Machine, tmp_path: Path) -> None:
    process = hold(machine, 60)
    try:
        assert thaw_leftovers(Place(tmp_path / "another").note) == []
        blocked = subprocess.Popen(["touch", machine.main / "blocked"])
        time.sleep(0.5)
        assert blocked.poll() is None
        assert set(thaw_leftovers(machine.root / "note")) == {str(machine.main), str(machine.data)}
        assert blocked.wait(30) == 0  # the one that froze would thaw after 60 s
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
