"""A stand-in or an appliance that found no space in the pool: it is told, and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from notfall_lab.dryrun.house import DryHouse, dry_house
from notfallserver.server.cycle import power
from notfallserver.server.cycle.hands import Hands
from notfallserver.server.cycle.power import Power
from notfallserver.server.cycle.standin import machine_name
from notfallserver.server.pool.room import Room, pool_full
from notfallserver.server.vm import appliance
from notfallserver.server.vm.hypervisor import MachineState
from notfallserver.wire.errors import NotfallError


@pytest.fixture
def dry(tmp_path: Path) -> Iterator[DryHouse]:
    with dry_house(tmp_path / "house", 21) as dry:
        try:
            yield dry
        finally:
            dry.world.ended.set()
            dry.house.runner.stop()


def test_a_stand_in_that_was_held_goes_on_when_there_is_room_and_the_original_is_silent(
    dry: DryHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid, means = dry.add("shop", "shop", [2]), dry.means
    catalogue, hypervisor, name = means.catalogue, dry.means.hypervisor, machine_name(uuid)
    catalogue.primaries.move(uuid, "normal", "emergency", "test", "test")
    hypervisor.pause(name)
    monkeypatch.setattr(hypervisor, "held", lambda _: hypervisor.state(name) == "paused")
    world = SimpleNamespace(full=True, alive=True)

    def need(_self: Room) -> None:
        if world.full:
            raise pool_full("It is full.")

    monkeypatch.setattr(Room, "need", need)
    verdict = lambda *_, **__: SimpleNamespace(  # noqa: E731
        allowed=not world.alive, text="it answers", to_json=dict
    )
    monkeypatch.setattr(power, "examine_primary", verdict)
    keeper = Power(means, Hands(), lambda *_: None)  # type: ignore[arg-type]

    def keep() -> list[str]:
        keeper.keep(catalogue.primaries.find(uuid))
        return [one.event for one in catalogue.journal.entries(uuid, 10)]

    assert keep().count("stand-in-held") == keep().count("stand-in-held") == 1
    world.full = False
    assert keep()[0] == "stand-in-held-back"  # it came back while nobody had its addresses
    assert hypervisor.state(name) is MachineState.PAUSED
    world.alive = False
    assert keep()[0] == "stand-in-went-on" and hypervisor.state(name) is MachineState.RUNNING
    assert keep().count("stand-in-went-on") == 1
    monkeypatch.setattr(hypervisor, "held", lambda _: False)
    hypervisor.pause(name)  # by a capture
    keep()
    assert hypervisor.state(name) is MachineState.PAUSED


def test_an_appliance_without_space_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def running(*_: Any) -> Iterator[tuple[str, Path]]:
        yield "appliance", Path()

    monkeypatch.setattr(appliance, "_running", running)
    machine: Any = SimpleNamespace(wait_off=lambda *_: False, state=lambda _: MachineState.PAUSED)
    with pytest.raises(NotfallError) as refused:
        appliance.run_appliance(machine, None, (), {}, timeout=3600)  # type: ignore[arg-type]
    assert refused.value.code == "pool-full"
