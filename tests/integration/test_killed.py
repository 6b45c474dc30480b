"""Server or agent killed in the middle of a replication of a real disk: it goes on from there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from agent_process import AgentProcess
from agent_receiver import command, loop_device
from hand_agent import HandAgent
from relay import Relay
from server_process import ServerProcess, running

from notfall_lab.patience import PATIENCE_S
from notfallserver.server.pool.version import Version, check_version
from notfallserver.wire.blocks import BLOCK

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

MIB = 1 << 20
SIZE = 192 * MIB
SLOW = 40 * MIB
"""Bytes a second on the line: the whole disk takes five seconds."""
LOST = 64 * MIB
"""What may be sent twice, less than the half: the eight frames that were in flight, and what of
them the relay took once more before it noticed that nobody is there."""


@dataclass
class Scene:
    server: ServerProcess
    agent: AgentProcess
    relay: Relay
    disk: str

    def order(self) -> str:
        with self.server.root() as root:
            answer = root.post(f"/api/v1/primaries/{self.agent.name}/replicate")
            assert answer.status_code == 202, answer.text
            job: str = answer.json()["id"]
            return job

    def await_middle(self, job: str) -> None:
        """Return when about the half has arrived."""
        until = time.monotonic() + PATIENCE_S
        while (row := self.server.job(job))["progress"]["done"] < SIZE * 2 // 5:
            assert row["finished_at"] is None and time.monotonic() < until, row
            time.sleep(0.05)
        assert row["progress"]["total"] == SIZE

    def newest(self) -> Version | None:
        return self.server.pool.primary(self.agent.uuid).newest()

    def rewrite(self) -> None:
        """Other content everywhere, so that the next run sends the whole disk."""
        with Path(self.disk).open("r+b") as stream:
            for _ in range(SIZE // MIB):
                stream.write(os.urandom(MIB))
            os.fsync(stream.fileno())

    def check_complete(self, before: Version, result: dict[str, object]) -> None:
        newest = self.newest()
        assert newest is not None and newest.stamp == result["version"] != before.stamp
        assert check_version(newest) == []
        command("cmp", newest.raw(0), self.disk)
        assert check_version(before) == []


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A primary with one disk of unknown content, which is read as it is, and a first version."""
    root = tmp_path_factory.mktemp("killed")
    image = root / "disk.img"
    with ExitStack() as stack:
        server = stack.enter_context(running(ServerProcess(root)))
        relay = stack.enter_context(Relay(server.port))
        with image.open("wb") as stream:
            stream.truncate(SIZE)
        disk = stack.enter_context(loop_device(image))
        agent = AgentProcess(server, "db", [disk], relay.url)
        scene = Scene(server, agent, relay, disk)
        scene.rewrite()
        stack.callback(agent.stop)
        agent.start()
        assert server.await_job(scene.order())["state"] == "done", agent.log()
        yield scene


@pytest.fixture
def middle(scene: Scene) -> Iterator[tuple[Version, str, int]]:
    """A replication of new content stands in its middle: last version, job, bytes sent so far."""
    before = scene.newest()
    assert before is not None
    manifest = (before.path / "manifest.json").read_bytes()
    scene.rewrite()
    scene.relay.rate = SLOW
    sent = scene.relay.sent
    job = scene.order()
    scene.await_middle(job)
    yield before, job, sent
    scene.relay.rate = 0
    assert (before.path / "manifest.json").read_bytes() == manifest


def test_a_killed_server_continues_in_what_arrived(
    scene: Scene, middle: tuple[Version, str, int]
) -> None:
    before, job, sent = middle
    scene.server.kill()
    scene.relay.rate = 0
    now = scene.newest()
    assert now == before and check_version(before) == []
    scene.server.start()
    row = scene.server.await_job(job)
    assert row["state"] == "done", (row, scene.agent.log())
    assert SIZE < scene.relay.sent - sent < SIZE + LOST
    scene.check_complete(before, row["result"])


def test_a_killed_agent_continues_in_what_arrived(
    scene: Scene, middle: tuple[Version, str, int]
) -> None:
    before, job, sent = middle
    scene.agent.kill()
    scene.relay.rate = 0
    time.sleep(1)
    assert scene.newest() == before and check_version(before) == []
    row = scene.server.job(job)
    assert row["finished_at"] is None
    scene.agent.start()
    row = scene.server.await_job(job)
    assert row["state"] == "done", (row, scene.agent.log())
    assert SIZE < scene.relay.sent - sent < SIZE + LOST
    scene.check_complete(before, row["result"])


def test_a_cancelled_replication_leaves_the_last_version(
    scene: Scene, middle: tuple[Version, str, int]
) -> None:
    before, job, _ = middle
    with scene.server.root() as root:
        assert root.post(f"/api/v1/jobs/{job}/cancel").status_code == 202
    assert scene.server.await_job(job)["state"] == "cancelled"
    assert scene.newest() == before and check_version(before) == []
    scene.relay.rate = 0
    row = scene.server.await_job(scene.order())
    assert row["state"] == "done", (row, scene.agent.log())
    scene.check_complete(before, row["result"])


def test_a_server_with_connected_agents_ends_quickly_and_keeps_what_arrived(
    tmp_path: Path,
) -> None:
    with running(ServerProcess(tmp_path)) as server:
        idle, busy = HandAgent(server, "idle"), HandAgent(server, "busy")
        idle.protect()
        busy.begin()
        busy.send("blocks", busy.blocks_frame(0, 4))
        assert server.stop() < 8
        server.start()
        assert busy.begin()["resumed"] is True
        incoming = server.pool.primary(busy.uuid).paths.incoming / "disk0.raw"
        assert incoming.read_bytes()[: 4 * BLOCK] == busy.disk[: 4 * BLOCK]
        busy.send_disk()
        stamp = busy.seal()
        assert check_version(server.pool.primary(busy.uuid).version(stamp)) == []
        for agent in (idle, busy):
            agent.close()
