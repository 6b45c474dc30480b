"""What an original is told that calls while its stand-in works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from notfallserver.server.cycle.returned import STAY_OFF, greet, hear_kept_off
from notfallserver.server.records import Catalogue, open_catalogue
from notfallserver.server.vm.hypervisor import MachineState
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine


class House:
    """The catalogue, and a hypervisor that knows how the stand-in is; None: it does not answer."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.machine: MachineState | None = MachineState.RUNNING
        self.hypervisor = SimpleNamespace(state=self._state)

    def _state(self, _name: str) -> MachineState:
        if self.machine is None:
            raise NotfallError("hypervisor-unreachable", "It does not answer.")
        return self.machine

    def move(self, *states: str) -> None:
        for before, after in zip(states, states[1:], strict=False):
            self.catalogue.primaries.move("u-1", before, after, "event", "test")

    def call(self, made_by: str = "", boot: str = "b") -> dict[str, Any] | None:
        self.catalogue.primaries.saw_agent("u-1", boot, "primary", "0")
        self.catalogue.primaries.note("u-1", made_by=made_by or None)
        means: Any = self
        return greet(means, "u-1")

    def keep_off(self, recovery: str = "") -> bool:
        means: Any = self
        body = {"boot_id": "b", "recovery": recovery, "because": "stand-in"}
        stay: bool = hear_kept_off(means, "u-1", body)["stay"]
        return stay

    def told(self, event: str) -> int:
        return [one.event for one in self.catalogue.journal.entries("u-1")].count(event)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    catalogue = open_catalogue(tmp_path)
    machine = Machine("web", disks=[Disk("vda", 1 << 30)])
    catalogue.primaries.adopt_primary("u-1", "web", machine, "", "normal", 60, 15)
    yield House(catalogue)
    catalogue.close()


def test_it_goes_off_the_network_while_the_stand_in_runs(house: House) -> None:
    assert house.call() is None  # as always
    house.move("normal", "activating", "emergency")
    assert house.call() == STAY_OFF and house.call() == STAY_OFF
    assert house.told("original-returned") == 1
    house.machine = None  # nobody knows: it may run
    assert house.call(boot="b2") == STAY_OFF
    assert house.told("original-returned") == 2
    house.machine = MachineState.OFF  # there are no two of them; people must see it all the same
    assert house.call() == {"order": "none"}


def test_the_machine_that_a_recovery_made_is_welcome(house: House) -> None:
    house.move("normal", "activating", "emergency", "recovering", "switching_back")
    house.catalogue.primaries.note("u-1", recovery={"id": "r-2"})
    assert house.call(made_by="r-2") is None and not house.keep_off("r-2")
    # But neither the original, nor a machine of an earlier recovery.
    assert house.call() == STAY_OFF and house.call(made_by="r-1") == STAY_OFF
    assert house.keep_off() and house.keep_off("r-1")


def test_it_comes_back_when_there_is_no_stand_in_any_more(house: House) -> None:
    house.move("normal", "activating", "emergency")
    assert house.keep_off() and house.told("original-kept-off") == 1
    house.move("emergency", "outage")
    assert not house.keep_off() and house.told("original-kept-off") == 1


def test_one_that_did_not_leave_as_it_said_is_told_again(house: House) -> None:
    house.move("normal", "activating", "emergency")
    house.call()
    house.keep_off()
    house.call()
    assert house.told("original-returned") == 2
    house.call()
    assert house.told("original-returned") == 2
    house.keep_off()
    assert house.told("original-kept-off") == 2


def test_it_stays_off_for_another_servers_stand_in(house: House) -> None:
    house.catalogue.primaries.saw_agent("u-1", "theirs", "stand-in", "0")
    house.catalogue.primaries.note("u-1", elsewhere="theirs")
    assert house.keep_off()
