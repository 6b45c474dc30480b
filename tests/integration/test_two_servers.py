"""One agent, two servers: one frozen moment for both, and neither is held by the other; root."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from agent_receiver import Receiver, command, packed_agent
from source_machine import (
    MIB,
    Machine,
    Records,
    Scatter,
    check_equal,
    check_one_of,
    check_version,
    copy_while_frozen,
)
from two_servers import WAITING, Door, Hanging, Two, another_receiver

from notfall_lab.patience import PATIENCE_S, until_soon
from notfallserver import VERSION
from notfallserver.agent import line, meeting, sight
from notfallserver.agent.applications.settings import ApplicationSettings, Own
from notfallserver.agent.changes.keeping import remove_traces
from notfallserver.agent.freeze.linux import thaw_leftovers
from notfallserver.agent.moment import FrozenBuffer
from notfallserver.agent.place import Place
from notfallserver.agent.servers import known_servers
from notfallserver.agent.sight import worth_waiting
from notfallserver.wire.blocks import Run
from notfallserver.wire.errors import NotfallError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def two(
    machine: Machine, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Two]:
    # However slow this machine is, two runs that are under way meet.
    monkeypatch.setattr(meeting, "worth_waiting", lambda *_: True)
    for name in ("LONGEST_WAIT_S", "LONGEST_PASS_S", "PATIENCE_S"):
        monkeypatch.setattr(meeting, name, 300.0)
    with ExitStack() as cleanup:
        own = Own("own", freeze=("/bin/true",), thaw=("/bin/true",))
        receiver.settings(machine.disks, applications=ApplicationSettings(auto=False, own=(own,)))
        two = Two(receiver, another_receiver(tmp_path / "second", cleanup))
        cleanup.callback(two.close)
        yield two


def test_two_servers_have_one_moment_under_load(
    machine: Machine, two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice; then one misses a run, and catches up with what was written since its own version."""
    copies = copy_while_frozen(machine, monkeypatch)
    with Records(machine):
        for read_all in (True, False):
            outcomes = two.together()
            assert [one.read_all for one in outcomes] == [read_all, read_all]
            assert len({one.frozen_at for one in outcomes}) == 1
            assert len({one["frozen_at"] for one in (r.seals[-1] for r in two.receivers)}) == 1
            assert {one.consistency for one in outcomes} == {"application"}
            # To the microsecond: it was held once, for both.
            assert outcomes[0].applications == outcomes[1].applications
            for receiver in two.receivers:
                check_equal(receiver, copies)
    for receiver in two.receivers:
        counts = check_version(receiver, machine, {})
        assert counts[1] in (counts[0], counts[0] - 1)
    (machine.main / "file1").write_bytes(os.urandom(4 * MIB))
    os.sync()
    two.service.first.replicate()
    (machine.main / "file2").write_bytes(os.urandom(2 * MIB))
    os.sync()
    outcomes = two.together()
    assert [one.read_all for one in outcomes] == [False, False]
    assert 2 * MIB < outcomes[0].bytes_sent < 4 * MIB
    assert outcomes[1].bytes_sent > outcomes[0].bytes_sent + 4 * MIB
    # Where one has much more to catch up with the other may not wait: then each has its own moment,
    # and the copies are of the later one.
    last = max(one.frozen_at for one in outcomes)
    for outcome, receiver in zip(outcomes, two.receivers, strict=True):
        if outcome.frozen_at == last:
            check_equal(receiver, copies)


FROZEN = threading.Event()
"""Something was read in a frozen moment."""

MOMENTS = ["hot", "waiting", "leading", "sending", "sealing"]


def hanging_at(moment: str, two: Two, monkeypatch: pytest.MonkeyPatch) -> Hanging:
    """The second server hangs from this moment of its run on."""
    door = two.doors[1]
    if moment == "hot":
        monkeypatch.setattr(meeting, "worth_waiting", worth_waiting)
        return Hanging(door, "offer")
    if moment == "waiting":  # the other arrives when this one waits, and leads
        hanging = Hanging(door, f"progress {WAITING}")
        hold_until(hanging.hangs, two.doors[0])
        return hanging
    if moment == "leading":  # the other waits when this one arrives
        waits = threading.Event()
        two.doors[0].before(lambda what: waits.set() if what.endswith(WAITING) else None)
        hanging = Hanging(door, "progress frozen")
        hangs = hanging._before

        def hold(what: str) -> None:
            if what == "offer":
                assert waits.wait(PATIENCE_S)
            hangs(what)

        door.before(hold)
        return hanging
    return Hanging(door, "offer", FROZEN) if moment == "sending" else Hanging(door, "seal")


def hold_until(event: threading.Event, door: Door) -> None:
    """No offer passes before."""

    def hold(what: str) -> None:
        if what == "offer":
            assert event.wait(PATIENCE_S)

    door.before(hold)


def test_a_server_that_hangs_does_not_hold_the_other(
    machine: Machine, two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs until the other's version is made, from each moment on; later it catches up."""
    copies = copy_while_frozen(machine, monkeypatch)
    monkeypatch.setattr(meeting, "PATIENCE_S", 2.0)
    monkeypatch.setattr(sight, "STALL_S", 2.0)
    monkeypatch.setattr(line, "PATIENCE", 1.0)
    two.together()
    other, gone = two.receivers
    read_frozen = FrozenBuffer.read

    def read(self: FrozenBuffer, wanted: list[list[Run]]) -> None:
        FROZEN.set()
        read_frozen(self, wanted)

    monkeypatch.setattr(FrozenBuffer, "read", read)
    for number, moment in enumerate(MOMENTS):
        (machine.main / f"file{number}").write_bytes(os.urandom(MIB))
        os.sync()
        FROZEN.clear()
        before = gone.store.need_newest().stamp
        with monkeypatch.context() as patches:
            hanging = hanging_at(moment, two, patches)
            runs = two.start(0), two.start(1)
            outcome = runs[0].outcome()
            assert hanging.hangs.wait(PATIENCE_S), moment
            assert runs[1].thread.is_alive(), moment
        assert other.store.need_newest().stamp == outcome.version, moment
        check_one_of(other, copies)  # on a busy machine the second freezes after a while
        hanging.end()
        runs[1].error()
        for door in two.doors:
            door.open()
        assert gone.store.need_newest().stamp == before, moment
        later = two.service.others[0].replicate()
        assert not later.read_all, moment
        assert later.bytes_sent < 4 * MIB, moment
    check_equal(gone, copies)


def test_when_the_one_that_freezes_for_both_fails_the_other_freezes_alone(
    machine: Machine, two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = copy_while_frozen(machine, monkeypatch)
    two.together()
    read_frozen = FrozenBuffer.read
    reads: list[int] = []

    def fail_once(self: FrozenBuffer, wanted: list[list[Run]]) -> None:
        reads.append(1)
        if len(reads) == 1:
            raise NotfallError("disk-read", "It cannot be read.", "Check it.")
        read_frozen(self, wanted)

    with Records(machine), Scatter(machine), monkeypatch.context() as patches:
        patches.setattr(FrozenBuffer, "read", fail_once)
        results = [run.result() for run in two.begin()]
        two.doors[0].open()
        two.doors[1].open()
    assert sorted(type(one).__name__ for one in results) == ["NotfallError", "Outcome"]
    failed = [isinstance(one, NotfallError) for one in results].index(True)
    check_equal(two.receivers[1 - failed], copies)
    later = [two.service.first, *two.service.others][failed].replicate()
    assert not later.read_all
    check_equal(two.receivers[failed], copies)


BOTH = """
import itertools, os, signal, sys, threading
from importlib import import_module
from pathlib import Path
from notfallserver.agent import meeting
from notfallserver.agent.service import Service
from notfallserver.agent.stop import Stop
meeting.worth_waiting = lambda *_: True
meeting.LONGEST_WAIT_S = meeting.LONGEST_PASS_S = meeting.PATIENCE_S = 300.0
configuration, module, owner, name, when, count = sys.argv[1:]
if module:
    held = import_module(f"notfallserver.agent.{module}")
    held = getattr(held, owner) if owner else held
    original = getattr(held, name)
    calls = itertools.count(1)
    def killing(*arguments, **named):
        fatal = next(calls) == int(count)
        if fatal and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **named)
        if fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(held, name, killing)
service = Service(Path(configuration), Stop())
runs = [threading.Thread(target=one.replicate) for one in (service.first, *service.others)]
for one in runs:
    one.start()
for one in runs:
    one.join()
"""
"""Both runs at once; the process is killed before or after the n-th call of a function."""

INSTANTS = [
    ("moment", "FrozenBuffer", "read", "after", 1),
    ("meeting", "Companion", "share", "after", 1),
]


def test_an_agent_killed_with_two_runs_under_way_forgets_no_write_of_either(
    machine: Machine, two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = copy_while_frozen(machine, monkeypatch)
    both = [sys.executable, "-c", BOTH, str(two.config)]
    with ExitStack() as load:
        load.enter_context(Records(machine))
        load.enter_context(Scatter(machine))
        two.together()
        two.service.close()
        began = time.monotonic()
        subprocess.run([*both, "", "", "", "", "0"], check=True, timeout=60)
        usual = time.monotonic() - began
        read_all = 0
        for instant in [*INSTANTS, None]:
            given = [str(one) for one in instant] if instant else ["", "", "", "", "0"]
            with subprocess.Popen([*both, *given], stderr=subprocess.DEVNULL) as agent:
                if instant is None:
                    time.sleep(random.uniform(0.2, 1) * usual)
                    agent.kill()
                code = agent.wait(PATIENCE_S)
            assert instant is None or code == -signal.SIGKILL, instant
            # What the dead one sent last is no part of the next run.
            until_soon(lambda: not any(one.connections for one in two.receivers))
            thaw_leftovers(Place(two.config).note)
            two.restart()
            outcomes = two.together()
            assert len({one.frozen_at for one in outcomes}) == 1
            read_all += sum(one.read_all for one in outcomes)
            for receiver in two.receivers:
                check_equal(receiver, copies)
            two.service.close()
        assert read_all <= 2  # what was known was not lost either


def test_the_service_serves_both_and_one_that_hangs_keeps_nobody_waiting(
    two: Two, tmp_path: Path
) -> None:
    """Neither the other server's orders and heartbeat, nor the agent's leaving."""
    first, second = two.receivers
    hanging = Hanging(two.doors[1], "poll")
    program = packed_agent(tmp_path / "agent.pyz")
    service = subprocess.Popen(
        [sys.executable, program, "run", "--config", two.config], stderr=subprocess.DEVNULL
    )
    try:
        assert hanging.hangs.wait(PATIENCE_S)
        for count in (1, 2):
            first.orders.append("replicate")
            until_soon(lambda count=count: len(first.seals) == count)  # type: ignore[misc]
        hanging.end()
        two.doors[1].open()
        second.orders.append("replicate")
        until_soon(lambda: len(second.seals) == 1)
        assert first.seals[-1]["frozen_at"] < second.seals[-1]["frozen_at"]
        again = Hanging(two.doors[1], "poll")
        assert again.hangs.wait(PATIENCE_S)
    finally:
        service.terminate()
        code = service.wait(PATIENCE_S)
    again.end()
    assert code == 0
    # What it knew outlived it, for each server.
    two.doors[1].open()
    assert [one.replicate().read_all for one in (two.service.first, *two.service.others)] == [
        False,
        False,
    ]


FROZEN_FOR_LONG = """
import sys, time
from pathlib import Path
from notfallserver.agent.main import main
from notfallserver.agent.moment import FrozenBuffer

def read(*_):
    Path(sys.argv[2]).touch()
    while not Path(sys.argv[3]).exists():
        time.sleep(0.01)

FrozenBuffer.read = read
main(["run", "--config", sys.argv[1]])
"""


def test_asked_to_leave_while_frozen_for_the_second_it_thaws_first(
    machine: Machine, two: Two, tmp_path: Path
) -> None:
    """The signal reaches the main thread, which serves the first one; there nothing is frozen."""
    told, go_on = tmp_path / "told", tmp_path / "go on"
    two.receivers[1].orders.append("replicate")
    line = [sys.executable, "-c", FROZEN_FOR_LONG, two.config, told, go_on]
    service = subprocess.Popen([str(one) for one in line], stderr=subprocess.DEVNULL)
    try:
        until_soon(told.exists)
        service.terminate()
        blocked = subprocess.Popen(["touch", machine.main / "probe"])
        time.sleep(0.5)
        assert blocked.poll() is None and service.poll() is None
        go_on.touch()
        assert blocked.wait(PATIENCE_S) == 0
        assert service.wait(PATIENCE_S) == 0
    finally:
        go_on.touch()
        service.kill()
        service.wait()
    assert not Place(two.config).note.exists()
    assert not two.receivers[1].seals


INSTALL = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from notfallserver.agent.install import Wish, install, remove
from notfallserver.wire.errors import NotfallError
program, target, *given = sys.argv[1:]
target = Path(target)
try:
    if len(given) == 1:
        remove(given[0], target / "etc")
    else:
        url, token, ca, *disks = given
        wish = Wish(url, token, Path(ca), disks, False, target / "etc", target / "agent.pyz")
        print(install(wish))
except NotfallError as error:
    sys.exit(error.code)
"""


def of_version(program: Path, version: str) -> bytes:
    """The same agent, saying that it is of another version."""
    changed = io.BytesIO(b"#!/usr/bin/env python3\n")
    changed.seek(0, io.SEEK_END)
    with zipfile.ZipFile(program) as package, zipfile.ZipFile(changed, "a") as copy:
        for one in package.infolist():
            content = package.read(one)
            if one.filename == "notfallserver/__init__.py":
                content = content.replace(VERSION.encode(), version.encode())
            copy.writestr(one, content)
    return changed.getvalue()


def test_a_second_servers_line_adds_it_and_either_can_be_taken_away(
    machine: Machine, receiver: Receiver, tmp_path: Path
) -> None:
    program = packed_agent(tmp_path / "agent.pyz")
    target = tmp_path / "target"
    etc = target / "etc"

    def call(*given: object) -> str:
        line = [sys.executable, "-c", INSTALL, program, target, *given]
        done = subprocess.run(
            [str(one) for one in line], capture_output=True, text=True, timeout=60, check=False
        )
        return (done.stdout + done.stderr).strip()

    def enrol(one: Receiver, *disks: str, url: str = "") -> str:
        one.token = "right"
        return call(url or one.url, "right", one.config / "ca.pem", *disks)

    def forget() -> None:
        for one in known_servers(etc):
            remove_traces(Place(one.directory, one.machine))

    def ask(*given: str) -> str:
        return command(sys.executable, target / "agent.pyz", *given, "--config", etc)

    with ExitStack() as cleanup:
        second, third = (another_receiver(tmp_path / name, cleanup) for name in ("b", "c"))
        cleanup.callback(forget)
        assert enrol(receiver, machine.one) == receiver.uuid
        assert call("127.0.0.1") == "last-server"
        installed, ours = target / "agent.pyz", program.read_bytes()
        for version, stays in (("99.1.0", True), ("0.0.9", False)):  # what a server brings is older
            there = of_version(program, version)
            installed.write_bytes(there)
            assert enrol(second) == second.uuid  # no disks named: the machine's are as they were
            assert installed.read_bytes() == (there if stays else ours)
        name = f"127.0.0.1-{second.url.split(':')[-1]}"
        assert ask("servers").splitlines() == [
            f"127.0.0.1  {receiver.url}",
            f"{name}  {second.url}",
        ]
        own = etc / "servers" / name
        assert {one.name for one in own.iterdir()} == {
            "agent.json",
            "ca.pem",
            "cert.pem",
            "key.pem",
        }
        assert all(one.stat().st_mode & 0o777 == 0o600 for one in own.iterdir())
        assert enrol(third) == "too-many-servers"
        assert third.token == "right"  # not spent
        assert enrol(receiver) == receiver.uuid  # again: renewed, not added
        renewed = second.url.replace("127.0.0.1", "localhost")  # it is known by its CA
        assert enrol(second, url=renewed) == second.uuid
        assert len(ask("servers").splitlines()) == 2
        told = [json.loads(ask("replicate", "--server", one)) for one in ("127.0.0.1", name)]
        for one, outcome in zip((receiver, second), told, strict=True):
            newest = one.store.need_newest()
            assert (newest.stamp, len(newest.manifest.disks)) == (outcome["version"], 1)

        assert call("elsewhere") == "no-such-server"
        assert call("127.0.0.1") == ""  # the first goes, the second takes its place
        assert ask("servers") == f"127.0.0.1  {second.url}"
        assert not own.exists()
        assert json.loads(ask("replicate"))["version"] == second.store.need_newest().stamp
        assert enrol(third) == third.uuid
        third_name = f"127.0.0.1-{third.url.split(':')[-1]}"
        assert call(third_name) == ""
        assert ask("servers") == f"127.0.0.1  {second.url}"
        assert call("127.0.0.1") == "last-server"
