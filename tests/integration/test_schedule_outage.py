"""What the server does of itself, on a small LAN: replicate on schedule, notice an outage.

Server and agent are the real processes, each in its own network namespace.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from agent_process import AgentProcess
from agent_receiver import loop_device
from server_process import ServerProcess, running

from notfall_lab.own_lab import own_network

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

MIB = 1 << 20


def until(true: Callable[[], bool], server: ServerProcess, seconds: float = 60) -> None:
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up, server.log()[-3000:]
        time.sleep(0.5)


def test_it_replicates_on_schedule_and_notices_when_the_primary_is_dead(tmp_path: Path) -> None:
    with ExitStack() as stack:
        network = stack.enter_context(own_network("outage", 207))
        network.add_host("db", 20)
        settings = {
            "listen_host": network.address(1),
            "lan_bridge": "lan0",
            "schedule_minutes": 1,
            "heartbeat_timeout_s": 10,
        }
        lan = ServerProcess(tmp_path, settings, network.inside("server"))
        server = stack.enter_context(running(lan))
        image = tmp_path / "disk.img"
        image.write_bytes(os.urandom(8 * MIB))
        device = stack.enter_context(loop_device(image))
        agent = AgentProcess(server, "db", [device], inside=network.inside("db"))
        stack.callback(agent.stop)
        agent.start()

        def primary() -> dict[str, Any]:
            shown = server.notfall("primary", "show", "db", "--json")
            row: dict[str, Any] = json.loads(shown.stdout)
            return row

        # Nobody orders it: the schedule finds that there is no version yet.
        until(lambda: any(server.pool.root.glob("*/versions/*/manifest.json")), server)
        until(lambda: primary()["state"] == "normal", server)
        assert network.address(20) in primary()["addresses"]
        jobs = json.loads(server.notfall("jobs", "--primary", "db", "--json").stdout)
        assert {one["who"] for one in jobs if one["kind"] == "replicate"} == {"schedule"}

        # The agent is gone, but the machine answers: no outage, and no stand-in.
        agent.stop()
        time.sleep(14)
        assert primary()["state"] == "normal"
        refused = server.notfall("activate", "db")
        assert refused.returncode == 1
        assert f"{network.address(20)} answers" in refused.stderr, refused.stderr

        # Who overrules the guard answers for it in the journal; a blank reason is none. Here the
        # start itself then fails for want of a hypervisor, and the primary's agent comes back.
        assert server.notfall("activate", "db", "--overrule", "  ").returncode == 1
        overruled = server.notfall("activate", "db", "--overrule", "its disk is broken", "--json")
        assert json.loads(overruled.stderr)["code"] == "hypervisor-unreachable", overruled.stderr
        journal = json.loads(server.notfall("journal", "db", "--json").stdout)
        (entry,) = [one for one in journal if one["event"] == "overruled"]
        assert entry["why"] == "its disk is broken" and entry["details"]["evidence"]
        agent.start()
        until(lambda: primary()["state"] == "normal", server)
        agent.stop()
        time.sleep(14)

        network.drop_host("db")
        until(lambda: primary()["state"] == "outage", server)
        journal = json.loads(server.notfall("journal", "db", "--json").stdout)
        seen = next(one for one in journal if one["event"] == "outage_seen")
        assert (seen["who"], seen["from_state"]) == ("server", "normal")
        assert seen["details"]["evidence"]
