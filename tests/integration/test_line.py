"""Limits of line and disks as the real agent keeps them, and its priorities, on a real disk."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from agent_process import AgentProcess
from agent_receiver import command, loop_device
from relay import Relay
from server_process import ServerProcess, running

from notfall_lab.patience import until_soon
from notfallserver.agent import kernel

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

MIB = 1 << 20
SIZE = 64 * MIB
MB = 1_000_000


@dataclass
class Scene:
    server: ServerProcess
    agent: AgentProcess
    relay: Relay
    disk: str
    ahead: int
    """So many seconds the server's clock on the wall is ahead of UTC."""

    def limit(self, **wish: object) -> list[str]:
        """Set these and no other limits; returns them in words."""
        with self.server.root() as root:
            path = f"/api/v1/primaries/{self.agent.name}/limits"
            answer = root.post(path, json={"clear": True, **wish})
        assert answer.status_code == 200, answer.text
        words: list[str] = answer.json()["limits"]["words"]
        return words

    def order(self) -> str:
        """Replicate other content than the newest version has."""
        with Path(self.disk).open("r+b") as stream:
            for _ in range(SIZE // MIB):
                stream.write(os.urandom(MIB))
            os.fsync(stream.fileno())
        with self.server.root() as root:
            answer = root.post(f"/api/v1/primaries/{self.agent.name}/replicate")
            assert answer.status_code == 202, answer.text
            job: str = answer.json()["id"]
        sent = self.sent()
        until_soon(lambda: self.sent() > sent + 3 * MIB or self.phase(job).startswith("paused"))
        return job

    def sent(self) -> int:
        return self.relay.sent

    def read(self) -> int:
        """Bytes that the agent read from disks."""
        told = Path(f"/proc/{self.agent.pid}/io").read_text()
        found = re.search(r"^read_bytes: (\d+)", told, re.MULTILINE)
        assert found is not None
        return int(found[1])

    def phase(self, job: str) -> str:
        return str(self.server.job(job)["progress"]["phase"])

    def finish(self, job: str) -> None:
        self.limit()
        row = self.server.await_job(job)
        assert row["state"] == "done", (row, self.agent.log())
        newest = self.server.pool.primary(self.agent.uuid).need_newest()
        command("cmp", newest.raw(0), self.disk)


def rate_of(count: Callable[[], int], seconds: float) -> float:
    """How fast something grows, in MB/s."""
    began, before = time.monotonic(), count()
    time.sleep(seconds)
    return (count() - before) / (time.monotonic() - began) / MB


def near(rate: float) -> object:
    return pytest.approx(rate, rel=0.2)


@pytest.fixture(scope="module")
def one_scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("line")
    image = root / "disk.img"
    # The first test needs a full minute on the server's clock soon after the rest is ready.
    ahead = -int(time.time() + 25) % 60
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("TZ", f"TST-00:00:{ahead:02d}")
        server = stack.enter_context(running(ServerProcess(root)))
        relay = stack.enter_context(Relay(server.port))
        with image.open("wb") as stream:
            stream.truncate(SIZE)
        disk = stack.enter_context(loop_device(image))
        # As a service is started, however these tests are.
        plain = ("nice", "-n", "-19", "ionice", "-c", "2", "-n", "4")
        agent = AgentProcess(server, "db", [disk], relay.url, inside=plain)
        stack.callback(agent.stop)
        agent.start()
        scene = Scene(server, agent, relay, disk, ahead)
        assert scene.limit() == []  # nothing is known of this primary yet
        scene.finish(scene.order())
        yield scene


@pytest.fixture
def scene(one_scene: Scene) -> Iterator[Scene]:
    """Without limits and without a run, whatever came before."""
    yield one_scene
    one_scene.limit()
    with one_scene.server.root() as root:
        jobs = root.get(f"/api/v1/primaries/{one_scene.agent.name}").json()["jobs"]
    for job in jobs:
        one_scene.server.await_job(job["id"])


def test_a_window_acts_on_a_run_under_way_when_it_begins(scene: Scene) -> None:
    shown = time.time() + scene.ahead
    begins = (int(shown + 5) // 60 + 1) * 60
    window, ends = (time.strftime("%H:%M", time.gmtime(one)) for one in (begins, begins + 3600))
    words = scene.limit(rate="2MB", windows=[f"{window}-{ends}=8MB"])
    assert words == ["line 16Mbit", f"line in the window {window}-{ends}=64Mbit"]
    while (left := begins - scene.ahead - time.time()) > 12:
        time.sleep(1)  # a machine so slow that the minute it was to be has passed
    job = scene.order()
    assert rate_of(scene.sent, 1) < 4
    left = begins - scene.ahead - time.time()
    assert left > 0
    time.sleep(left + 1.5)
    assert rate_of(scene.sent, 1.5) == near(8)
    scene.finish(job)


def test_a_limit_holds_over_all_connections_and_a_change_acts_on_a_run_under_way(
    scene: Scene,
) -> None:
    scene.limit(rate="3MB")
    job = scene.order()
    time.sleep(0.5)
    assert rate_of(scene.sent, 2.5) == near(3)
    scene.limit(rate="72Mbit")
    time.sleep(1.5)
    assert rate_of(scene.sent, 2) == near(9)
    scene.finish(job)


def test_reading_is_limited_outside_of_the_frozen_moment(scene: Scene) -> None:
    scene.limit(read_rate="12MB")
    job = scene.order()
    assert rate_of(scene.read, 3) == pytest.approx(12, rel=0.35)  # read in pieces of 4 MiB
    scene.finish(job)


def test_a_busy_primary_is_left_alone_until_somebody_says_otherwise(scene: Scene) -> None:
    scene.limit(pause_load="0.01")
    job = scene.order()
    until_soon(lambda: scene.phase(job) == "paused: load")
    until_soon(lambda: rate_of(scene.read, 0.5) == 0, 10)
    assert rate_of(scene.read, 1.5) == 0
    assert scene.phase(job) == "paused: load"
    scene.finish(job)


def priorities(pid: int) -> tuple[set[int], set[int]]:
    """Nice values, and classes with levels of disk priority, of all threads."""
    nice, disk = set(), set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            nice.add(int((task / "stat").read_text().rpartition(")")[2].split()[16]))
            disk.add(kernel.syscall("ioprio_get", 1, int(task.name)))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return nice, disk


def test_the_agent_works_at_low_priority_and_hurries_while_frozen(scene: Scene) -> None:
    low, high = ({10}, {2 << 13 | 7}), ({-10}, {2 << 13})
    scene.limit(rate="8MB")
    job = scene.order()
    assert len(list(Path(f"/proc/{scene.agent.pid}/task").iterdir())) > 3
    assert priorities(scene.agent.pid) == low
    seen, over = [], threading.Event()

    def look() -> None:
        while not over.wait(0.005):
            seen.append(priorities(scene.agent.pid))

    thread = threading.Thread(target=look)
    thread.start()
    scene.finish(job)
    over.set()
    thread.join()
    assert high in seen
    assert priorities(scene.agent.pid) == low


def test_limits_line_and_forecast_are_shown_and_journalled(scene: Scene) -> None:
    scene.limit(rate="32MB")  # long enough on the line to tell what it gives
    assert scene.server.await_job(scene.order())["state"] == "done"
    window = "Mon-Fri 08:00-18:00=2Mbit"
    name = scene.agent.name
    given = ("--rate", "50Mbit", "--window", window, "--pause-load", "8")
    done = scene.server.notfall("primary", "limit", name, *given)
    assert done.returncode == 0, done.stderr
    assert f"line in the window {window}" in done.stdout
    with scene.server.root() as root:
        row = root.get(f"/api/v1/primaries/{scene.agent.name}").json()
        entries = root.get("/api/v1/journal", params={"primary": scene.agent.name}).json()
        refused = root.post(f"/api/v1/primaries/{scene.agent.name}/limits", json={"rate": "10M"})
        listed = root.get("/api/v1/primaries").json()
    assert row["limits"]["rate"] == 6_250_000
    assert row["limits"]["windows"] == ["Mon-Fri 08:00-18:00=2Mbit"]
    assert row["limits"]["rate_now"] in (6_250_000, 250_000)
    assert row["line"]["rate"] > 0
    assert row["forecast"]["runs"] >= 1
    assert row["forecast"]["send_rate"] > 0
    assert (refused.status_code, refused.json()["code"]) == (422, "bad-limits")
    assert listed[0]["forecast"] is None
    assert "limits-changed" in {one["event"] for one in entries}
    told = scene.server.notfall("primary", "show", scene.agent.name).stdout
    for line in ("line in the window Mon-Fri 08:00-18:00=2Mbit", "pauses above load 8", "forecast"):
        assert line in told
    cleared = scene.server.notfall("--json", "primary", "limit", scene.agent.name, "--no-limits")
    assert json.loads(cleared.stdout)["words"] == []
