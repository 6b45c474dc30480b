"""How busy a Windows machine is: processors and disks on the average of a minute, and waiting."""

from __future__ import annotations

import pytest

import notfall_lab.windows.structures as w
from notfall_lab.windows.machine import Machine, disk, of_bytes
from notfallserver.agent.calm import Calm
from notfallserver.agent.windows.answers import (
    DISK_PERFORMANCE,
    BadAnswer,
    Performance,
    read_performance,
)
from notfallserver.agent.windows.load import Load
from notfallserver.agent.windows.system import Refused, Times
from notfallserver.wire.allowance import Allowance

SECOND = 10_000_000


def performance(idle_s: float, passed_s: float, queued: int = 0) -> bytes:
    one = w.DiskPerformance(idle=int(idle_s * SECOND), queued=queued)
    one.query = 133_000_000 * SECOND + int(passed_s * SECOND)
    return bytes(one)


class Busy(Machine):
    """Four processors and two disks, that work as they are told."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        for number in (0, 1):
            table = w.mbr_layout(1, [(0, 0, 0)] * 4)
            self.devices[number] = disk(of_bytes(bytes(512)), 512, table)
        self.idle = [100.0, 100.0]
        self.work(0, 0, 0)

    def work(self, seconds: float, busy: float, *disks: float, queued: int = 0) -> float:
        """``busy`` and ``disks`` are shares of the time."""
        self.now += seconds
        passed = self.clock.passed + int(4 * seconds * SECOND)
        self.clock = Times(self.clock.idle + int(4 * seconds * (1 - busy) * SECOND), passed)
        for number, share in enumerate((*disks, 0.0, 0.0)[:2]):
            self.idle[number] += seconds * (1 - share)
            told = performance(self.idle[number], self.now, queued if number == 0 else 0)
            self.devices[number].answers[DISK_PERFORMANCE] = told
        return self.now


def load_of(machine: Machine, *disks: int) -> Load:
    load = Load(machine)
    load.open(disks)
    return load


def test_the_structure() -> None:
    assert len(performance(1, 2)) == 88
    found = read_performance(performance(1, 2, 3))
    assert found == Performance(SECOND, 133_000_002 * SECOND, 3)
    with pytest.raises(BadAnswer):
        read_performance(performance(1, 2)[:60])


def test_processors_and_requests_of_the_last_minute_are_the_load() -> None:
    machine = Busy()
    load = load_of(machine, 0, 1)
    assert load.look(machine.now).load == 0
    told = [load.look(machine.work(1, 0.5, queued=3)).load for _ in range(60)]
    assert told[8] == 0  # nothing is concluded from a few seconds
    assert told[9:] == pytest.approx([2 + 3] * 51)
    quiet = [load.look(machine.work(1, 0)).load for _ in range(60)]
    assert quiet[29] == pytest.approx(2.5, abs=0.1)
    assert quiet[-1] == pytest.approx(0)


def test_the_busiest_disk_is_waited_for() -> None:
    machine = Busy()
    load = load_of(machine, 0, 1)
    assert load.look(machine.now).waited_us == 0
    assert load.look(machine.work(2, 0, 0.25, 0.5)).waited_us == 1_000_000
    assert load.look(machine.work(1, 0, 0.75, 0.5)).waited_us == 1_750_000
    load.close()
    assert not any(one.open for one in machine.handles)


def test_a_run_holds_still_while_others_wait() -> None:
    machine, calm = Busy(), Calm()
    load, limit = load_of(machine, 0), Allowance(pause_pressure=30, pause_s=600)
    told = [calm.judge(load.look(machine.now), limit)]
    told += [calm.judge(load.look(machine.work(1, 0, one)), limit) for one in (0.5, 0.4, 0.1, 0.9)]
    assert told == ["listen", "pressure", "pressure", "", ""]


def test_what_windows_does_not_tell_is_idle() -> None:
    class Mute(Busy):
        def times(self) -> Times:
            raise Refused(5, "GetSystemTimes")

    machine = Mute()
    load = load_of(machine, 0, 7)  # there is no disk 7
    for one in machine.devices.values():
        del one.answers[DISK_PERFORMANCE]
    looks = [load.look(machine.now + second) for second in range(20)]
    assert {one.load for one in looks} == {0.0}
    assert {one.waited_us for one in looks} == {None}
