"""What an agent knows outlives it: stopped, killed at any instant, or replaced; needs root."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from agent_receiver import Receiver, command, loop_device
from source_machine import (
    MIB,
    Machine,
    Records,
    Scatter,
    check_equal,
    check_version,
    copy_while_frozen,
)

from notfall_lab.patience import PATIENCE_S, until_soon
from notfallserver.agent import install, place
from notfallserver.agent.changes import assembler, bpf
from notfallserver.agent.freeze.linux import thaw_leftovers
from notfallserver.agent.outcome import Outcome
from notfallserver.agent.place import Place
from notfallserver.agent.service import Service
from notfallserver.agent.stop import Stop

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

AGENT = """
import os, signal, sys
from importlib import import_module
from notfallserver.agent.main import main
configuration, module, owner, name, when, count = sys.argv[1:]
held = import_module(f"notfallserver.agent.{module}")
held = getattr(held, owner) if owner else held
original = getattr(held, name)
left = int(count)
def killing(*arguments, **named):
    global left
    left -= 1
    if not left and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*arguments, **named)
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(held, name, killing)
main(["replicate", "--config", configuration])
"""

INSTANTS = [
    ("changes.tracker", "Tracker", "_gather", "before", 1),
    ("changes.tracker", "Tracker", "_gather", "before", 2),
    ("changes.tracker", "Tracker", "_gather", "after", 2),
    ("kernel", "", "fill_zero", "after", 1),
    ("changes.tracker", "Tracker", "settle", "after", 2),
    ("changes.tracker", "Tracker", "take", "after", 1),
    ("changes.tracker", "Tracker", "take", "after", 2),
    ("passes", "Passes", "_pass", "after", 1),
    ("moment", "FrozenBuffer", "read", "before", 1),
    ("moment", "FrozenBuffer", "read", "after", 1),
    ("passes", "Passes", "send_rest", "before", 1),
    ("changes.ledger", "Ledger", "lose", "before", 1),
    ("passes", "Passes", "send_rest", "after", 1),
    ("changes.ledger", "Ledger", "promise", "before", 1),
    ("changes.ledger", "Ledger", "promise", "after", 1),
    ("changes.ledger", "Ledger", "seal", "before", 1),
    ("changes.tracker", "Tracker", "forget", "before", 1),
    ("changes.tracker", "Tracker", "forget", "after", 1),
]
"""Where the second run is killed: module, class, function, before or after its n-th call."""
SEALED = INSTANTS.index(("changes.ledger", "Ledger", "seal", "before", 1))
"""From here on the server has sealed; at this one the agent does not know yet."""


def replicate(receiver: Receiver, configuration: Path | None = None) -> Outcome:
    """One run of an agent that lives no longer than that."""
    directory = configuration or receiver.config
    thaw_leftovers(Place(directory).note)
    service = Service(directory, Stop())
    try:
        return service.replicate()
    finally:
        service.close()


def pinned(directory: Path) -> set[str]:
    pins = Place(directory).pins
    return {one.name for one in pins.iterdir()} if pins.exists() else set()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_is_written_while_no_agent_runs_is_known_to_the_next(
    machine: Machine, receiver: Receiver, how: signal.Signals
) -> None:
    receiver.settings(machine.disks)
    line = [sys.executable, "-m", "notfallserver.agent.main", "run"]
    line += ["--config", str(receiver.config)]
    files = [machine.main / "file4", machine.data / "file4"]
    for number in range(2):
        service = subprocess.Popen(line, stderr=subprocess.DEVNULL)
        try:
            receiver.orders.append("replicate")
            until_soon(lambda: len(receiver.seals) > number)  # noqa: B023
            polls = receiver.free_polls
            until_soon(lambda: receiver.free_polls > polls)  # noqa: B023
        finally:
            service.send_signal(how)
            service.wait(PATIENCE_S)
        if not number:
            assert "link_block_rq_issue" in pinned(receiver.config)
            for file in files:
                with file.open("r+b") as stream:
                    stream.seek(MIB)
                    stream.write(os.urandom(MIB))
            os.sync()
    assert [one["read_all"] for one in receiver.seals] == [True, False]
    assert receiver.seals[1]["bytes_read"] < 20 * MIB
    assert 2 * MIB < receiver.seals[1]["bytes_sent"] < 4 * MIB
    check_version(
        receiver,
        machine,
        {"main/file4": files[0].read_bytes(), "data/file4": files[1].read_bytes()},
    )


LEFT_OUT = "the kernel left the tracker out"
"""It does so where another program of its kind (of any process) is interrupted on the same
processor. Then all must be read. Other tests beside this one have such programs, too."""


def test_killed_at_any_instant_no_write_is_forgotten(
    machine: Machine,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Two processes after each other, the first one killed; the second one's version is right.

    The server forgets what the first one sent, so that the second one can rely on nothing but
    marks; but once it remembers the run that it sealed (or did not seal yet).
    Where the first one had sealed, both what follows then and what follows if that version is
    removed again, so that the server's newest one is the one before.
    """
    receiver.settings(machine.disks)
    config = str(receiver.config)
    copies = copy_while_frozen(machine, monkeypatch)
    plans = [(number, False, False) for number in range(len(INSTANTS))]
    plans += [(number, True, False) for number in range(SEALED, len(INSTANTS))]
    plans += [(SEALED, False, True), (SEALED - 1, False, True)]
    left_out = 0
    caplog.set_level("INFO", "notfall-agent")
    with ExitStack() as load:
        load.enter_context(Records(machine))
        load.enter_context(Scatter(machine))
        assert replicate(receiver).read_all
        for number, removed, remembered in plans:
            caplog.clear()
            module, owner, name, when, count = INSTANTS[number]
            before = receiver.store.need_newest().stamp
            killed = subprocess.run(
                [sys.executable, "-c", AGENT, config, module, owner, name, when, str(count)],
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert killed.returncode == -signal.SIGKILL, (INSTANTS[number], killed.stderr)
            sealed = receiver.store.need_newest().stamp
            assert (sealed != before) == (number >= SEALED), INSTANTS[number]
            if not remembered:
                receiver.runs.end(receiver.uuid)
                receiver.store.drop_incoming()
            if removed:
                receiver.store.remove_version(sealed)
            outcome = replicate(receiver)
            told = f"{INSTANTS[number]}: {killed.stderr}{caplog.text}"
            if LEFT_OUT in told:
                left_out += 1
                assert outcome.read_all or LEFT_OUT in killed.stderr
            else:
                knows_other = number >= SEALED and (number == SEALED) != removed
                assert outcome.read_all == (knows_other and not remembered), told
            check_equal(receiver, copies)
    assert left_out < len(plans) / 4


def test_killed_at_random_under_load_no_write_is_forgotten(
    machine: Machine, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.settings(machine.disks)
    copies = copy_while_frozen(machine, monkeypatch)
    line = [sys.executable, "-m", "notfallserver.agent.main", "replicate"]
    line += ["--config", str(receiver.config)]
    incremental = 0
    with ExitStack() as load:
        load.enter_context(Records(machine))
        load.enter_context(Scatter(machine))
        replicate(receiver)
        began = time.monotonic()
        command(*line)
        usual = time.monotonic() - began
        for _ in range(8):
            for _ in range(random.randrange(1, 3)):
                with subprocess.Popen(
                    line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                ) as agent:
                    time.sleep(random.uniform(0.1, 1) * usual)
                    agent.kill()
            incremental += not replicate(receiver).read_all
            check_equal(receiver, copies)
    assert incremental > 4
    counts = check_version(receiver, machine, {})
    assert counts[0] > 0


def test_a_kernel_that_cannot_pin_makes_the_next_agent_read_all(
    machine: Machine, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bpf, "_link", lambda *_: -1)  # as before Linux 5.15
    receiver.settings(machine.disks)
    service = Service(receiver.config, Stop())
    assert [service.replicate().read_all for _ in range(2)] == [True, False]
    service.close()
    assert not pinned(receiver.config)
    assert not Place(receiver.config).state.exists()
    assert replicate(receiver).read_all


@pytest.mark.parametrize("unlike", ["boot", "primary", "tracker", "program", "format", "record"])
def test_whatever_is_unlike_makes_the_agent_read_all(
    machine: Machine, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, unlike: str
) -> None:
    receiver.settings(machine.disks)
    assert replicate(receiver).read_all
    assert not replicate(receiver).read_all
    state = Place(receiver.config).state
    told = json.loads(state.read_text())
    if unlike == "program":  # another release, whose program marks in another way
        monkeypatch.setattr(assembler, "FINE_LIMIT", 128)
    elif unlike == "record":
        state.write_text(state.read_text()[:-5])
    else:
        state.write_text(json.dumps({**told, unlike: 0 if unlike == "format" else "other"}))
    assert replicate(receiver).read_all
    assert not replicate(receiver).read_all
    check_version(receiver, machine, {"main/file3": (machine.main / "file3").read_bytes()})


def test_another_layout_while_no_agent_runs_voids_what_was_known(
    machine: Machine, receiver: Receiver
) -> None:
    receiver.settings(machine.disks)
    replicate(receiver)
    command("partx", "-d", "--nr", "3", machine.one)
    assert replicate(receiver).read_all


def test_another_disk_with_the_same_name_and_layout_voids_what_was_known(
    receiver: Receiver, tmp_path: Path
) -> None:
    image, at = tmp_path / "disk.img", 5 * MIB
    image.write_bytes(os.urandom(8 * MIB))
    with loop_device(image) as device:
        receiver.settings([device])
        assert replicate(receiver).read_all
        assert not replicate(receiver).read_all
        command("losetup", "-d", device)
        with image.open("r+b") as stream:  # nobody saw this write
            stream.seek(at)
            stream.write(b"elsewhere")
        command("losetup", device, image)
        assert replicate(receiver).read_all
        command("cmp", receiver.image(), image)


def test_a_second_agent_beside_a_running_one_does_not_touch_what_it_knows(
    machine: Machine, receiver: Receiver, agent: Service
) -> None:
    assert agent.replicate().read_all
    assert replicate(receiver).read_all  # with a tracker of its own
    assert agent.replicate().read_all  # it knows nothing of that version
    assert not agent.replicate().read_all
    agent.close()
    assert not replicate(receiver).read_all


def test_uninstalling_removes_the_tracker_but_not_that_of_another_agent(
    machine: Machine, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "UNIT_FILE", tmp_path / "no.service")
    # A place of its own: agents that this machine really has, or had, must not matter.
    monkeypatch.setattr(place, "ROOT", tmp_path / "run")
    receiver.settings(machine.disks)
    other = tmp_path / "other"
    command("cp", "-r", receiver.config, other)
    for directory in (receiver.config, other):
        replicate(receiver, directory)
    assert pinned(receiver.config) == pinned(other) != set()
    install.uninstall(receiver.config, tmp_path / "program" / "agent.pyz")
    assert not receiver.config.exists()
    assert not Place(receiver.config).directory.exists()
    assert not pinned(receiver.config)
    assert not replicate(receiver, other).read_all
    install.uninstall(other, tmp_path / "program" / "agent.pyz")
    assert not Place(other).filesystem.exists()
    assert not Place(other).directory.exists()
