"""One agent, two servers: one frozen moment for both, and neither is held by the other; root."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from agent_receiver import Receiver
from source_machine import (
    MIB,
    Machine,
    Records,
    check_equal,
    check_version,
    copy_while_frozen,
)
from two_servers import WAITING, Door, Hanging, Two, second_receiver

from notfallserver.agent import line, meeting
from notfallserver.agent.moment import FrozenBuffer
from notfallserver.wire.blocks import Run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def two(
    machine: Machine, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Two]:
    # On a machine with much else to do the one may be some seconds behind the other.
    monkeypatch.setattr(meeting, "LEAST_WAIT_S", 60.0)
    with ExitStack() as cleanup:
        two = Two(receiver, second_receiver(tmp_path, cleanup), machine.disks)
        cleanup.callback(two.close)
        yield two


def test_two_servers_have_one_moment_under_load(
    machine: Machine, two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice; then one misses a run, and catches up with what was written since its own version."""
    copies = copy_while_frozen(machine, monkeypatch)
    freezes: list[int] = []
    read_frozen = FrozenBuffer.read

    def count(self: FrozenBuffer, wanted: list[list[Run]]) -> None:
        read_frozen(self, wanted)
        freezes.append(threading.get_ident())

    monkeypatch.setattr(FrozenBuffer, "read", count)
    with Records(machine):
        for read_all in (True, False):
            freezes.clear()
            outcomes = two.together()
            assert [one.read_all for one in outcomes] == [read_all, read_all]
            assert len({one.frozen_at for one in outcomes}) == 1
            assert len({one["frozen_at"] for one in (r.seals[-1] for r in two.receivers)}) == 1
            assert freezes
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
    for receiver in two.receivers:
        check_equal(receiver, copies)


FROZEN = threading.Event()
"""In this test's process something was read in a frozen moment."""

MOMENTS = ["before", "hot", "waiting", "leading", "sending", "sealing"]


def hanging_at(moment: str, two: Two, monkeypatch: pytest.MonkeyPatch) -> Hanging:
    """The second server hangs from this moment of its run on; both runs wait for each other."""
    if moment != "hot":
        monkeypatch.setattr(meeting, "worth_waiting", lambda *_: True)
    door = two.doors[1]
    if moment == "before":
        return Hanging(door, "runs")
    if moment == "hot":
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
                assert waits.wait(60)
            hangs(what)

        door.before(hold)
        return hanging
    return Hanging(door, "offer", FROZEN) if moment == "sending" else Hanging(door, "seal")


def hold_until(event: threading.Event, door: Door) -> None:
    """No offer passes before."""

    def hold(what: str) -> None:
        if what == "offer":
            assert event.wait(60)

    door.before(hold)


def test_a_server_that_hangs_does_not_hold_the_other(
    machine: Machine, two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs until the other's version is made, from each moment on; later it catches up."""
    copies = copy_while_frozen(machine, monkeypatch)
    monkeypatch.setattr(meeting, "PATIENCE_S", 2.0)
    monkeypatch.setattr(meeting, "STALL_S", 2.0)
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
            assert hanging.hangs.wait(60), moment
            assert runs[1].thread.is_alive(), moment
        assert other.store.need_newest().stamp == outcome.version, moment
        check_equal(other, copies)
        hanging.end()
        runs[1].error()
        for door in two.doors:
            door.open()
        assert gone.store.need_newest().stamp == before, moment
        later = two.service.others[0].replicate()
        assert not later.read_all, moment
        assert later.bytes_sent < 4 * MIB, moment
        check_equal(gone, copies)
