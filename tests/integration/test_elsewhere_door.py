"""A stand-in of another emergency server at this one's door."""

from __future__ import annotations

import json
from secrets import token_hex

import pytest
from hand_agent import HandAgent
from server_process import ServerProcess

from notfallserver.wire.errors import NotfallError


def test_another_servers_stand_in_is_not_taken_for_the_primary(server: ServerProcess) -> None:
    """It gets no order and adds no version; but there is no second stand-in while it works."""
    agent = HandAgent(server, f"else{token_hex(3)}")
    stamp = agent.protect()
    with server.root() as root:
        before = root.get(f"/api/v1/primaries/{agent.name}").json()
        job = root.post(f"/api/v1/primaries/{agent.name}/replicate").json()["id"]
        agent.machine = {**agent.machine, "hostname": "virtual"}
        assert agent.poll("stand-in", boot_id="theirs") == {"order": "none"}
        with pytest.raises(NotfallError) as caught:
            agent.begin()
        assert (caught.value.status, caught.value.code) == (409, "stand-in-elsewhere")
        after = root.get(f"/api/v1/primaries/{agent.name}").json()
        assert (after["state"], after["hostname"]) == ("normal", before["hostname"])
        journal = root.get("/api/v1/journal", params={"primary": agent.name}).json()
        assert [one["event"] for one in journal].count("stand-in-elsewhere") == 1
        refused = json.loads(server.notfall("activate", agent.name, "--json").stderr)
        assert refused["code"] == "guard-alive", refused
        root.post(f"/api/v1/jobs/{job}/cancel")
    assert server.await_job(job)["state"] == "cancelled"
    assert server.pool.primary(agent.uuid).need_newest().stamp == stamp
    agent.poll("primary", busy=True)  # it came back, by the other server
    assert agent.replicate() > stamp
    agent.close()
