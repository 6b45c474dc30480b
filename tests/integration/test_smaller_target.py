"""A recovery to a smaller disk on the real routes, through the real appliance: what the target gets
in each round is a reshaped version, and what it holds in the end is the newest state, whole.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from agent_receiver import command, loop_device
from hand_agent import HandAgent
from machines_scene import server_with_machines
from rescue_target import Target, Working, await_state, ready, recover, refusal
from server_process import ServerProcess

from notfallserver.wire.facts import Disk

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

MIB = 1 << 20
SIZE = 300 * MIB
SMALLER = 200 * MIB
LETTER = os.urandom(3 * MIB + 5)
LIMIT_S = 400.0


def make_disk(folder: Path) -> bytes:
    tree = folder / "tree"
    tree.mkdir()
    (tree / "letter").write_bytes(LETTER)
    disk = folder / "disk"
    with disk.open("xb") as stream:
        stream.truncate(SIZE)
    subprocess.run(["sfdisk", "-q", disk], input="label: gpt\ntype=L\n", text=True, check=True)
    size = f"{(SIZE - 2 * MIB) // 1024}k"
    command("mkfs.ext4", "-q", "-F", "-d", tree, "-E", f"offset={MIB}", disk, size)
    return disk.read_bytes()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[tuple[ServerProcess, HandAgent]]:
    with server_with_machines("smaller", 23) as server, ExitStack() as stack:
        agent = HandAgent(server, "shop", make_disk(tmp_path))
        stack.callback(agent.close)
        part = {"number": 1, "start": MIB, "size": SIZE - 2 * MIB, "filesystem": "ext4"}
        agent.machine["disks"][0] |= {"table": "gpt", "partitions": [part]}
        agent.poll()
        agent.protect()
        server.put_in_emergency(agent.uuid)
        yield server, agent


def until(what: str, done: object, limit: float = LIMIT_S) -> None:
    assert callable(done)
    end = time.monotonic() + limit
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.3)


@pytest.mark.timeout(1200)  # four machines, emulated, beside another lane's
def test_what_was_written_last_comes_to_a_smaller_disk(
    scene: tuple[ServerProcess, HandAgent], tmp_path: Path
) -> None:
    server, agent = scene
    image = tmp_path / "target.img"
    with image.open("xb") as stream:
        stream.truncate(SMALLER)
    with loop_device(image) as device, ExitStack() as stack:
        name = device.removeprefix("/dev/")
        tiny = Target(server, Disk("sda", 80 * MIB))
        stack.callback(tiny.client.close)
        tiny.register()
        told = refusal(server, "recover", agent.name, "--to", tiny.code, "--yes")
        assert told["code"] == "target-disk-too-small" and "At least 0." in told["cause"]
        assert tiny.poll() == {"order": "none"}
        target = Target(server, Disk(name, SMALLER, serial="T1", model="Loop"))
        stack.callback(target.client.close)
        target.register()
        working = stack.enter_context(Working(target))
        recover(server, agent, target)
        until("first round", lambda: working.written)
        standin = server.pool.primary(agent.uuid).standin()
        assert standin is not None
        note = tmp_path / "note"
        note.write_text("written by the stand-in")
        place = f"{standin.disks[0]}?offset={MIB}"
        command("debugfs", "-w", "-R", f"write {note} note", place)
        until("ready", lambda: ready(server, agent))
        with server.root() as root:
            answer = root.post(f"/api/v1/primaries/{agent.name}/switch-back", json={})
            assert answer.status_code == 202, answer.text
        until("reboot", lambda: working.orders[-1]["order"] == "reboot")
        adapt = next(one for one in working.orders if one["order"] == "adapt")
        agent.poll("primary", recovery=adapt["recovery"])
        await_state(server, agent, "normal")
        store = server.pool.primary(agent.uuid)
        until("cleared", lambda: not list(store.paths.reshaped.iterdir()), 30)
        assert sum(working.written[1:]) < working.written[0]  # deltas stay deltas
        assert "No problems found" in command("sgdisk", "-v", device)
    part = f"{image}?offset={MIB}"
    assert command("debugfs", "-R", "cat note", part).endswith("written by the stand-in")
    command("debugfs", "-R", f"dump letter {tmp_path}/letter", part)
    assert (tmp_path / "letter").read_bytes() == LETTER
