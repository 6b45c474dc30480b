"""The way back on the real routes, with a real disk: recovery, switch-back, and what a start mends.

Nothing here needs a machine: the stand-in's disks are a clone in the pool, and libvirt is its
built-in test driver, which knows of no machine; so the stand-in counts as shut down.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from secrets import token_hex
from typing import Any

import pytest
from agent_receiver import command
from hand_agent import HandAgent, Serving
from rescue_target import SIZE, Target, Working, await_state, ready, recover, refusal, state_of
from server_process import ServerProcess

from notfall_lab.patience import PATIENCE_S, until
from notfallserver.wire.blocks import BLOCK
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def server(machineless: ServerProcess) -> ServerProcess:
    return machineless


@pytest.fixture
def agent(in_emergency: HandAgent) -> HandAgent:
    return in_emergency


def test_a_recovery_goes_on_after_the_server_was_killed_and_ends_in_the_switch_back(
    server: ServerProcess, agent: HandAgent, target_disk: Disk, boot: Callable[..., Target]
) -> None:
    target = boot(target_disk)
    target.register()
    with ExitStack() as stack:
        working = stack.enter_context(Working(target))
        working.hold.set()
        job = recover(server, agent, target)
        until = time.monotonic() + PATIENCE_S
        while not working.orders:
            assert time.monotonic() < until
            time.sleep(0.1)
        server.kill()
        working.hold.clear()  # it reads while the server is away and while it comes back
        server.start()
        assert state_of(server, agent) == "recovering"
        standin = server.pool.primary(agent.uuid).standin()
        assert standin is not None
        with standin.disks[0].open("r+b") as stream:
            stream.seek(3 * BLOCK)
            stream.write(b"written by the stand-in")
        while not ready(server, agent):
            assert time.monotonic() < until + 60, server.log()[-3000:]
            time.sleep(0.3)
        with server.root() as root:
            answer = root.post(f"/api/v1/primaries/{agent.name}/switch-back", json={})
            assert answer.status_code == 202, answer.text
            switch = answer.json()["id"]
        while working.orders[-1]["order"] != "reboot":
            assert time.monotonic() < until + 120, (server.job(switch), target.report)
            time.sleep(0.2)
        assert server.await_job(job)["state"] == "done"
        state = state_of(server, agent)
        # Somebody switches the original on: it is not taken for the recovered machine.
        assert agent.poll("primary") == {"order": "none"}
        time.sleep(2)
        assert server.job(switch)["finished_at"] is None
        assert "original-returned" in events(server, agent)
        made_by = working.orders[-1]["recovery"]
        assert agent.poll("primary", recovery=made_by) == {"order": "none"}
        row = server.await_job(switch)
    assert (state, row["state"]) == ("switching_back", "done"), row
    assert row["result"]["changes"] == ["fstab"]
    # First everything that is no hole, later only what the stand-in wrote.
    assert sum(working.written) <= SIZE // 2 + 4 * BLOCK
    assert state_of(server, agent) == "normal"
    assert server.pool.primary(agent.uuid).standin() is None
    newest = server.pool.primary(agent.uuid).need_newest()
    command("cmp", "-n", SIZE, newest.raw(0), f"/dev/{target_disk.name}")
    assert b"written by the stand-in" in newest.raw(0).read_bytes()
    # The way back stays open: the stand-in's disks are ready to start again, as they were.
    kept = server.pool.primary(agent.uuid).prepared(newest.stamp)
    assert kept is not None
    command("cmp", kept.disks[0], newest.raw(0))
    assert trial(server, agent)["version"] == newest.stamp
    assert refusal(server, "undo", agent.name)["code"] == "hand-over-unknown"  # an agent by hand
    assert server.notfall("accept", agent.name).returncode == 0
    assert trial(server, agent) is None
    assert refusal(server, "accept", agent.name)["code"] == "no-trial"
    assert "trial-ended" in events(server, agent)


def trial(server: ServerProcess, agent: HandAgent) -> Any:
    with server.root() as root:
        return root.get(f"/api/v1/primaries/{agent.name}").json()["trial"]


def events(server: ServerProcess, agent: HandAgent) -> list[str]:
    with server.root() as root:
        rows = root.get("/api/v1/journal", params={"primary": agent.name}).json()
    return [row["event"] for row in rows]


def test_a_recovered_machine_that_comes_late_still_ends_the_switch_back(
    server: ServerProcess, agent: HandAgent
) -> None:
    with server.catalogue() as catalogue:
        disks = [{"index": 0, "serial": "", "name": "sda", "size": SIZE}]
        note = {"id": "r-late", "target": "gone", "disks": disks}
        catalogue.primaries.note(agent.uuid, recovery=note)
        for before, after in (("emergency", "recovering"), ("recovering", "switching_back")):
            catalogue.primaries.move(agent.uuid, before, after, "test", "test")
    agent.poll("primary")
    time.sleep(3)
    assert state_of(server, agent) == "switching_back"
    agent.poll("primary", recovery="r-late")
    await_state(server, agent, "normal")
    until(lambda: server.pool.primary(agent.uuid).standin() is None)
    assert agent.protect()  # and it is protected as before


def test_a_start_mends_what_a_crash_left_between_state_and_job(
    server: ServerProcess, agent: HandAgent, target_disk: Disk, boot: Callable[..., Target]
) -> None:
    """Killed after the state was left or entered, but before the rest was written down."""
    target = boot(target_disk)
    target.register()
    job = recover(server, agent, target)
    while target.poll()["order"] != "pull":
        time.sleep(0.1)
    server.kill()
    with server.catalogue() as catalogue:
        catalogue.jobs.finish(job, "failed")  # as if it had never been written down
    server.start()
    again = recover_job(server, agent)
    assert again != job
    until = time.monotonic() + PATIENCE_S
    while target.poll()["order"] != "pull":
        assert time.monotonic() < until
    server.kill()
    with server.catalogue() as catalogue:  # the recovery had failed, but its target not been freed
        catalogue.primaries.move(agent.uuid, "recovering", "emergency", "test", "test")
    server.start()
    assert server.await_job(again)["state"] == "done"
    assert state_of(server, agent) == "emergency"
    with server.catalogue() as catalogue:
        assert "recovery" not in catalogue.primaries.find(agent.uuid).notes
        assert catalogue.targets.by_code(target.code).state == "free"


def recover_job(server: ServerProcess, agent: HandAgent) -> str:
    with server.root() as root:
        rows = root.get("/api/v1/jobs", params={"primary": agent.name}).json()
    return next(
        str(row["id"]) for row in rows if row["kind"] == "recover" and not row["finished_at"]
    )


def test_a_switch_back_set_for_later_can_be_taken_back(
    server: ServerProcess, agent: HandAgent, target_disk: Disk, boot: Callable[..., Target]
) -> None:
    target = boot(target_disk)
    target.register()
    with Working(target):
        job = recover(server, agent, target)
        until = time.monotonic() + PATIENCE_S
        while not ready(server, agent):
            assert time.monotonic() < until, server.job(job)
            time.sleep(0.3)
        planned = server.notfall("switch-back", agent.name, "--at", "2099-01-31 22:30", "--json")
        assert planned.returncode == 0, planned.stderr
        switch = json.loads(planned.stdout)["id"]
        undone = server.notfall("undo", agent.name)
        assert undone.returncode == 0, undone.stderr
        assert server.await_job(switch)["state"] == "cancelled"
        assert state_of(server, agent) == "recovering"
        assert server.notfall("undo", agent.name).returncode == 0
        assert server.await_job(job)["state"] == "cancelled"
    assert state_of(server, agent) == "emergency"
    # One further step back: the stand-in is given up, what it wrote is a version.
    before = server.pool.primary(agent.uuid).need_newest().stamp
    undone = server.notfall("undo", agent.name)
    assert undone.returncode == 0, undone.stderr
    assert state_of(server, agent) in ("outage", "normal")
    newest = server.pool.primary(agent.uuid).need_newest()
    assert newest.stamp > before and newest.manifest.kind == "capture"
    assert server.pool.primary(agent.uuid).standin() is None
    assert refusal(server, "undo", agent.name)["code"] == "nothing-to-undo"


def test_a_recovery_begun_again_sends_only_what_is_missing(
    server: ServerProcess, agent: HandAgent, target_disk: Disk, boot: Callable[..., Target]
) -> None:
    """What the target's disk holds stays known, unless somebody else wrote to it."""
    target = boot(target_disk)
    target.register()

    def recovered(working: Working) -> int:
        """Bytes that the first round of a new recovery wrote; the disk is right afterwards."""
        before = len(working.written)
        job = recover(server, agent, target)
        until = time.monotonic() + PATIENCE_S
        while len(working.written) == before:
            assert time.monotonic() < until, server.job(job)
            time.sleep(0.1)
        with server.root() as root:
            root.post(f"/api/v1/jobs/{job}/cancel")
        assert server.await_job(job)["state"] == "cancelled"
        raw = server.pool.primary(agent.uuid).need_newest().raw(0)
        command("cmp", "-n", SIZE, raw, f"/dev/{target_disk.name}")
        return working.written[before]

    with Working(target) as working:
        assert recovered(working) > SIZE // 3
        assert recovered(working) == 0
        place = SIZE // 2 // BLOCK + 2
        with open(f"/dev/{target_disk.name}", "r+b") as stream:
            stream.seek(place * BLOCK)
            stream.write(b"somebody else")
        assert recovered(working) >= BLOCK  # no signature on it: it was emptied, not read


def test_other_primaries_replicate_and_are_captured_meanwhile(
    server: ServerProcess, agent: HandAgent, target_disk: Disk, boot: Callable[..., Target]
) -> None:
    """One primary is in emergency operation, another in recovery: a third goes on as always."""
    other = HandAgent(server, f"o{token_hex(4)}")
    other.protect()
    target = boot(target_disk)
    target.register()
    with Working(target) as working, Serving(other):
        working.hold.set()
        job = recover(server, agent, target)
        for _ in range(2):
            other.disk = os.urandom(len(other.disk))
            done = server.notfall("replicate", other.name, "--follow", "--json")
            assert done.returncode == 0, done.stderr
            newest = server.pool.primary(other.uuid).need_newest()
            assert newest.raw(0).read_bytes() == other.disk
        with pytest.raises(NotfallError) as caught:
            agent.begin()  # the original itself must not go behind what the stand-in wrote
        assert caught.value.code == "stand-in-works"
        assert server.job(job)["finished_at"] is None
        working.hold.clear()
    with server.root() as root:
        root.post(f"/api/v1/jobs/{job}/cancel")
    server.await_job(job)
    other.close()
