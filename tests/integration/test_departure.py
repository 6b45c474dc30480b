"""The end of a handover on real filesystems: nothing that was acknowledged is missing, and nothing
can be acknowledged any more. Only the machine's services and its power are played."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from agent_receiver import Receiver, command, loop_device, mounted
from source_machine import Machine, Records

from notfall_lab.patience import PATIENCE_S
from notfallserver.agent import kernel
from notfallserver.agent.handover.departure import Departure
from notfallserver.agent.handover.note import Note
from notfallserver.agent.outcome import Outcome
from notfallserver.agent.place import Place
from notfallserver.agent.service import Service
from notfallserver.agent.work.linux import LinuxWork
from notfallserver.wire.errors import NotfallError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Played:
    """Services that go on writing, which is worse than any that stop; power that is looked at."""

    def __init__(self, note: Note, at_power_off: Callable[[], None]) -> None:
        self._note = note
        self._at_power_off = at_power_off
        self.started = 0

    def stop(self, tick: Callable[[], None]) -> None:
        self._note.write(["writer.service"])
        tick()

    def start_again(self) -> None:
        self.started += 1
        self._note.remove()

    def power_off(self) -> None:
        self._at_power_off()


def departure(
    receiver: Receiver, played: Played, tell: Callable[[Mapping[str, Any]], object]
) -> Departure:
    return Departure(Note(Place(receiver.config).stopped), played, tell, played.power_off)


def depart(agent: Service, by: Departure) -> Outcome:
    work = agent.first.work
    assert isinstance(work, LinuxWork)
    return agent.first.carry_out(lambda connect: work.depart(connect, by))


def records_in(image: Path, partition: int, place: Path) -> list[int]:
    with (
        loop_device(image, "-r") as device,
        mounted(f"{device}p{partition}", place, "-o", "ro,norecovery"),
    ):
        return Records.read(place / "records")


def test_whatever_was_acknowledged_is_in_the_last_version(
    machine: Machine, receiver: Receiver, agent: Service, tmp_path: Path
) -> None:
    agent.replicate()
    seen: dict[str, int] = {}
    told: list[dict[str, Any]] = []

    def look() -> None:
        """The instant of the power cut: no write comes back any more."""
        seen["acknowledged"] = records.count
        for place in (machine.main, machine.data):
            stuck = subprocess.Popen(["touch", place / "late"])
            with pytest.raises(subprocess.TimeoutExpired):
                stuck.wait(1)
            writers.append(stuck)
        assert records.count == seen["acknowledged"]

    writers: list[subprocess.Popen[bytes]] = []
    played = Played(Note(Place(receiver.config).stopped), look)
    with Records(machine) as records:
        outcome = depart(agent, departure(receiver, played, lambda body: told.append(dict(body))))
    for one in writers:
        one.wait(PATIENCE_S)
    newest = receiver.store.need_newest()
    assert outcome.version == newest.stamp == told[0]["version"]
    assert newest.manifest.consistency == "application"
    assert played.started == 0  # it has gone: nothing is started on it again
    assert seen["acknowledged"] > 0
    expected = list(range(seen["acknowledged"]))
    # First main, then data: the record under way may be in the first one only.
    assert records_in(newest.raw(1), 1, tmp_path / "look")[: len(expected)] == expected
    assert records_in(newest.raw(0), 1, tmp_path / "look")[: len(expected)] == expected
    assert not (machine.root / "note").exists()


def test_where_the_farewell_is_refused_it_works_on(
    machine: Machine, receiver: Receiver, agent: Service
) -> None:
    def refuse(_: Mapping[str, Any]) -> None:
        raise NotfallError("handover-over", "Given up.", "Try again.", status=409)

    played = Played(Note(Place(receiver.config).stopped), lambda: pytest.fail("switched off"))
    with Records(machine) as records:
        with pytest.raises(NotfallError) as caught:
            depart(agent, departure(receiver, played, refuse))
        before = records.count
        command("touch", machine.main / "works", timeout=10)
        while records.count == before:
            pass
    assert caught.value.code == "handover-over" and played.started == 1
    assert agent.replicate().version  # and it is protected as before


def test_one_that_is_cancelled_while_it_shuts_down_is_started_again(
    machine: Machine, receiver: Receiver, agent: Service
) -> None:
    played = Played(Note(Place(receiver.config).stopped), lambda: pytest.fail("switched off"))
    stop = played.stop

    def cancelled(tick: Callable[[], None]) -> None:
        run = receiver.runs.of_primary(receiver.uuid)
        assert run is not None and run.last and run.phase == "shutting down"
        run.cancelled = True
        stop(tick)

    def begun(tick: Callable[[], None]) -> None:
        tick()
        cancelled(tick)

    played.stop = begun  # type: ignore[method-assign]
    with pytest.raises(NotfallError) as caught:
        depart(agent, departure(receiver, played, lambda _: pytest.fail("told")))
    assert caught.value.code == "cancelled" and played.started == 1
    assert receiver.store.newest() is None


def test_the_power_goes_off_without_a_word() -> None:
    """In a namespace of processes the kernel ends its first one instead of the machine, in a way
    that tells what was asked for (reboot(2)): by SIGINT for switching off."""
    program = (
        "from notfallserver.agent.handover.off import WAYS, switch_off; "
        "switch_off(WAYS[:1]); print('still here')"
    )
    assert kernel.may_power_off()
    done = subprocess.run(
        ["unshare", "--fork", "--pid", "--", sys.executable, "-c", program],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == b"" and done.returncode in (128 + signal.SIGINT, -signal.SIGINT)
