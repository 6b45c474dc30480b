"""Freezing and thawing real filesystems, whatever happens to the one who froze; needs root."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from agent_receiver import (
    Receiver,
    command,
)
from source_machine import Machine

from notfallserver.agent.freeze.linux import thaw_leftovers
from notfallserver.agent.place import Place
from notfallserver.agent.run import Outcome
from notfallserver.agent.service import Service
from notfallserver.wire.errors import NotfallError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


HOLD = """
import sys, time
from pathlib import Path
from notfallserver.agent.disks.linux import machine_facts, protected_disks
from notfallserver.agent.disks.mounts import current_mounts, to_freeze
from notfallserver.agent.freeze.linux import Freezer
from notfallserver.agent.stop import Stop
stop = Stop()
stop.listen()
disks = protected_disks(sys.argv[3:])
groups = to_freeze(current_mounts(), [one.device for one in disks])
with Freezer(groups, float(sys.argv[1]), stop, Path(sys.argv[2])) as freezer, freezer.hold():
    print("frozen", flush=True)
    end = time.monotonic() + 60
    while time.monotonic() < end and not stop.asked:
        time.sleep(0.01)
"""


def hold(machine: Machine, deadline: float) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(deadline), machine.root / "note", *machine.disks],
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


def test_an_agent_thaws_only_what_its_own_note_names(machine: Machine, tmp_path: Path) -> None:
    process = hold(machine, 60)
    try:
        assert thaw_leftovers(Place(tmp_path / "another").note) == []
        blocked = subprocess.Popen(["touch", machine.main / "blocked"])
        time.sleep(0.5)
        assert blocked.poll() is None
        assert set(thaw_leftovers(machine.root / "note")) == {str(machine.main), str(machine.data)}
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
