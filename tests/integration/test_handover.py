"""A living primary is handed over to a real stand-in; the agent's end is played message by message.

The original is a host on the LAN that answers until its cable is pulled, as a machine that switches
itself off.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from rehearsal_scene import PORT, Scene, rehearsable

from notfall_lab.patience import BOOT_S, PATIENCE_S, until
from notfallserver.server.vm import MachineState
from notfallserver.wire.errors import NotfallError

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.timeout(900),
]

CAN = ["hand-over"]


@dataclass
class Original:
    """It polls, replicates on order, and does what the test says for the last order."""

    scene: Scene
    last: Callable[[], None]
    boot: str = "b"
    can: list[str] = field(default_factory=lambda: list(CAN))
    gone: bool = False
    refused: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def _live(self) -> None:
        while not self._over.is_set() and not self.gone:
            try:
                answer = self.scene.agent.poll(boot_id=self.boot, can=self.can)
                if answer["order"] == "replicate":
                    self.scene.agent.replicate()
                elif answer["order"] == "hand-over":
                    self.last()
            except NotfallError as error:
                self.refused.append(error.code)
                self._over.wait(0.3)

    def __enter__(self) -> Original:
        self.scene.lab.network.add_host("orig", 20)
        self._thread = threading.Thread(target=self._live)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if not self.gone:
            self.scene.lab.network.drop_host("orig")

    # -- its end ---------------------------------------------------------------------------------

    def seal(self) -> str:
        """The last run, up to the version; which can start as it is."""
        agent = self.scene.agent
        body = {"machine": agent.machine, "codecs": [1], "boot_id": self.boot, "last": True}
        agent.run = agent.client.call("POST", "/agent/v1/runs", body)["run"]
        agent.tell("progress", {"phase": "shutting down", "pass": 1, "done": 0, "total": 0})
        agent.send_disk()
        stamp = agent.seal(consistency="application")
        store = self.scene.server.pool.primary(agent.uuid)
        with store.preparing(store.version(stamp)) as clones:
            store.seal_prepared(clones, {})
        return stamp

    def farewell(self, version: str) -> None:
        body = {"version": version, "boot_id": self.boot}
        # On a line of its own: what comes too late is said while the agent polls on.
        with closing(self.scene.agent.connect()) as client:
            client.call("POST", "/agent/v1/farewell", body)

    def switch_off(self) -> None:
        self.gone = True
        self.scene.lab.network.drop_host("orig")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with rehearsable(tmp_path_factory.mktemp("over"), "hando", 24) as scene:
        with scene.server.root() as root:
            witnesses = {"witnesses": [scene.lab.network.address(30)]}
            assert root.post("/api/v1/settings", json=witnesses).status_code == 200
        with witness(scene):
            yield scene


@contextmanager
def witness(scene: Scene) -> Iterator[None]:
    scene.lab.network.add_host("witn", 30)
    try:
        yield
    finally:
        scene.lab.network.drop_host("witn")


def told(scene: Scene, *arguments: str) -> dict[str, Any]:
    """What a command answers in JSON, refused or not."""
    done = scene.server.notfall(*arguments, "--json")
    answer: dict[str, Any] = json.loads(done.stdout if done.returncode == 0 else done.stderr)
    return answer


def events(scene: Scene) -> list[str]:
    return [str(one["event"]) for one in scene.ask("/journal?primary=shop")]


def ready(scene: Scene) -> None:
    until(lambda: scene.state() == "normal")
    until(lambda: told(scene, "handover", "shop", "--plan").get("possible") is True)


def begin(scene: Scene) -> str:
    with scene.server.root() as root:
        answer = root.post("/api/v1/primaries/shop/hand-over")
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])


def test_what_stands_in_the_way_is_said_before_anything_is_shut_down(scene: Scene) -> None:
    one = Original(scene, lambda: pytest.fail("ordered"), can=[])
    with one:
        until(lambda: scene.state() == "normal")
        time.sleep(1)
        assert told(scene, "handover", "shop", "--yes")["code"] == "hand-over-unknown"
        one.can = list(CAN)
        ready(scene)
        plan = told(scene, "handover", "shop", "--plan")
        assert plan["obstacle"] is None and plan["predicted_downtime_s"] > plan["boot_s"] > 0
        assert told(scene, "handover", "shop")["code"] == "not-confirmed"
        assert told(scene, "accept", "shop")["code"] == "no-trial"
    assert "hand_over" not in events(scene)


def test_an_original_that_fails_or_is_called_back_works_on(scene: Scene) -> None:
    """Until it has said farewell; and what it says later is refused."""
    stamps: list[str] = []
    before = events(scene).count("handover_failed")

    def fail() -> None:
        stamps.append(one.seal())  # sealed, but then its agent goes on: nothing is started

    one = Original(scene, fail)
    with one:
        ready(scene)
        job = begin(scene)
        assert told(scene, "activate", "shop")["code"] in ("handover-under-way", "guard-alive")
        row = scene.server.await_job(job)
        assert row["error"]["code"] == "no-farewell", row
        assert scene.state() == "normal"
        with pytest.raises(NotfallError) as late:
            one.farewell(stamps[0])
        assert late.value.code == "handover-over"

        def called_back() -> None:
            stamps.append(one.seal())
            done = scene.server.notfall("undo", "shop")
            assert done.returncode == 0, done.stderr
            one.farewell(stamps[1])

        one.last = called_back
        ready(scene)
        row = scene.server.await_job(begin(scene))
        assert row["state"] == "cancelled"
        until(lambda: one.refused[-1:] == ["handover-over"])
        assert scene.state() == "normal"
    assert scene.hypervisor.state(f"standin-{scene.agent.uuid}") is MachineState.ABSENT
    assert events(scene).count("handover_failed") == before + 2


def test_it_is_handed_over_though_the_server_is_killed_after_the_farewell(scene: Scene) -> None:
    stamps: list[str] = []
    said = threading.Event()

    def go() -> None:
        stamps.append(one.seal())
        one.farewell(stamps[0])
        one.farewell(stamps[0])  # the answer may have been lost
        said.set()

    one = Original(scene, go)
    with one:
        ready(scene)
        job = begin(scene)
        assert said.wait(PATIENCE_S), scene.server.job(job)
        assert told(scene, "undo", "shop")["code"] == "handover-past-return"
        scene.kill_server()
        scene.server.start()
        time.sleep(3)
        # It said that it goes, but it still answers.
        assert scene.state() == "handing_over"
        assert scene.hypervisor.state(f"standin-{scene.agent.uuid}") is MachineState.ABSENT
        one.switch_off()
        row = scene.server.await_job(job, BOOT_S)
    assert row["state"] == "done", row
    assert row["result"]["version"] == stamps[0] and row["result"]["ports"] == [PORT]
    assert 0 < row["result"]["downtime_s"] < BOOT_S
    assert scene.state() == "emergency"
    assert scene.hypervisor.state(f"standin-{scene.agent.uuid}") is MachineState.RUNNING
    assert {"left", "activate", "standin_up"} <= set(events(scene))
    assert "outage_seen" not in events(scene)
