"""A stand-in's power by the command line, with a real machine and a real guard on a small LAN."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hand_agent import HandAgent
from server_process import ServerProcess, running
from typing_guest import DISK, TypingGuest

from notfall_lab.own_lab import own_lab
from notfall_lab.patience import until
from notfallserver.server.vm import MachineState

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ORIGINAL = 20


class Scene:
    """The server on the LAN, its primary's address silent, the stand-in defined."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self.lab = own_lab("power", directory / "lab", net=205)
        made = ServerProcess(directory, {"libvirt_uri": self.lab.uri, "lan_bridge": "lan0"})
        self.server = stack.enter_context(running(made))
        agent = HandAgent(self.server, "shop", DISK)
        stack.callback(agent.close)
        agent.machine["nics"][0]["addresses"] = [f"{self.lab.network.address(ORIGINAL)}/24"]
        agent.protect()
        self.uuid = agent.uuid
        self.server.put_in_emergency(agent.uuid)
        stack.enter_context(self.lab)
        self.server.stop()
        self.server.inside = self.lab.network.inside("server")
        self.server.start()
        self.guest = TypingGuest(self.server, agent, self.lab)
        stack.callback(self.guest.hypervisor.close)

    def power(self, *order: str) -> str:
        """What it answers; the error's code where it is refused."""
        done = self.server.notfall("power", "shop", *order, "--json")
        told = json.loads(done.stdout if done.returncode == 0 else done.stderr)
        return str(told["machine"] if done.returncode == 0 else told["code"])

    def state(self) -> MachineState:
        return self.guest.hypervisor.state(self.guest.name)

    def events(self) -> list[str]:
        done = self.server.notfall("journal", "shop", "--json")
        return [str(one["event"]) for one in json.loads(done.stdout)]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(stack, tmp_path_factory.mktemp("power"))


def test_what_was_shut_down_stays_off_and_what_fell_over_comes_back(scene: Scene) -> None:
    # Just defined it is as after a power cut: nobody knows why it is off.
    until(lambda: scene.guest.told() == "B")
    assert "stand-in-restarted" in scene.events()
    assert scene.power() == scene.power("start") == "running"  # nothing happens
    scene.lab.power_cycle()
    until(lambda: scene.guest.told() == "BB")
    assert scene.power("shut-down") in ("running", "off", "ending")
    until(lambda: scene.state() is MachineState.OFF)
    assert scene.guest.hypervisor.ended_in_order(scene.guest.name)
    time.sleep(5)
    scene.lab.power_cycle()  # after which libvirt doesn't know any more why it is off
    assert scene.guest.hypervisor.fell_over(scene.guest.name)
    time.sleep(8)
    assert scene.state() is MachineState.OFF
    assert scene.power("shut-down") == "stand-in-not-on"


def test_it_is_not_switched_on_beside_the_original(scene: Scene) -> None:
    scene.lab.network.add_host("shop", ORIGINAL)
    try:
        assert scene.power("start") == "guard-alive"
        assert scene.state() is MachineState.OFF
        assert scene.events()[0] == "refused"
    finally:
        scene.lab.network.drop_host("shop")
    assert scene.power("start") == "running"
    before = len(scene.guest.told())
    until(lambda: scene.guest.told().endswith("B"))
    scene.power("restart")
    until(lambda: len(scene.guest.told()) > before)


def test_hard_off_must_be_meant(scene: Scene) -> None:
    if scene.state() is not MachineState.RUNNING:
        assert scene.power("start") == "running"
    assert scene.power("switch-off") == "not-confirmed"
    assert scene.state() is MachineState.RUNNING
    assert scene.power("switch-off", "--yes") == "off"
    assert scene.events()[0] == "power-switch-off"


def test_only_a_stand_in_at_work_is_switched(scene: Scene) -> None:
    with scene.server.catalogue() as catalogue:
        move = catalogue.primaries.move
        move(scene.uuid, "emergency", "recovering", "recover", "test")
        move(scene.uuid, "recovering", "switching_back", "switch_back", "test")
    try:
        assert scene.power("start") == "not-in-this-state"
        assert scene.state() is MachineState.OFF
    finally:
        with scene.server.catalogue() as catalogue:
            move = catalogue.primaries.move
            move(scene.uuid, "switching_back", "emergency", "switch_back_failed", "test")
