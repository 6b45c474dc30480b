"""What agents may not do: wrong tokens, others' data, broken frames, states that forbid it.

Each refusal is an error in the one shape, and leaves everything as it was.
"""

from __future__ import annotations

import itertools
import os
import struct
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from hand_agent import FEW, HandAgent
from server_process import MACHINE, ServerProcess
from sqlalchemy import update

from notfall_lab.patience import PATIENCE_S
from notfallserver.server.host.files import read_json
from notfallserver.server.pool.version import check_version
from notfallserver.server.records.database import Database, now
from notfallserver.server.records.tables import invites
from notfallserver.wire.blocks import BLOCK, HOLE, UNKNOWN, hash_block
from notfallserver.wire.client import Client, tls_context
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.frames import (
    BATCH_BLOCKS,
    FRAME_LIMIT,
    HEADER,
    OFFER_BLOCKS,
    PLAIN,
    ZLIB,
    write_blocks,
    write_holes,
    write_offer,
)

names = (f"door{number}" for number in itertools.count())


@pytest.fixture
def agent(server: ServerProcess) -> Iterator[HandAgent]:
    """An agent whose primary has one version."""
    agent = HandAgent(server, next(names))
    agent.protect()
    yield agent
    agent.close()


def picture(server: ServerProcess) -> dict[str, Any]:
    """What people see and what lies in the pool, apart from times of contact."""
    with server.root() as root:
        rows = root.get("/api/v1/primaries").json()
    for row in rows:
        row.pop("jobs")
        row.pop("last_seen")
    pool = server.pool.root
    versions = sorted(str(one.relative_to(pool)) for one in pool.glob("*/versions/*/*"))
    return {"primaries": rows, "versions": versions}


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    told: dict[str, Any] = answer.json()
    assert set(told) == {"code", "cause", "remedy", "retry"}
    assert told["code"] == code and told["cause"]
    return told


def check_newest(server: ServerProcess, agent: HandAgent, stamp: str) -> None:
    """The newest version is still this one, whole, and holds the agent's disk."""
    newest = server.pool.primary(agent.uuid).need_newest()
    assert newest.stamp == stamp
    assert check_version(newest) == []
    assert newest.raw(0).read_bytes() == agent.disk


# -- enrolment -----------------------------------------------------------------------------------


def expire(server: ServerProcess, name: str) -> None:
    database = Database(server.data / "catalogue.db")
    with database.writing() as connection:
        late = now() - timedelta(seconds=1)
        connection.execute(update(invites).where(invites.c.name == name).values(expires_at=late))
    database.close()


def test_a_token_that_is_wrong_used_or_expired_enrols_nobody(server: ServerProcess) -> None:
    used, late = server.invite(next(names)), next(names)
    expired = server.invite(late)
    expire(server, late)
    with server.client() as fresh:
        first = fresh.post("/agent/v1/enrol", json={"token": used, "machine": MACHINE})
        assert first.status_code == 200
        before = picture(server)
        for token, why in (("0" * 32, "wrong"), (used, "used already"), (expired, "expired")):
            answer = fresh.post("/agent/v1/enrol", json={"token": token, "machine": MACHINE})
            told = refused(answer, 403, "invite-refused")
            assert why in told["cause"] and "notfall primary invite" in told["remedy"]
            assert "key" not in told
        assert picture(server) == before


# -- certificates --------------------------------------------------------------------------------

AGENT_ROUTES = ("poll", "runs", *(f"runs/x/{one}" for one in ("offer", "blocks", "holes")))
MORE_ROUTES = tuple(f"runs/x/{one}" for one in ("progress", "seal", "fail"))


def test_without_certificate_no_route_of_agents_answers(server: ServerProcess) -> None:
    with server.client() as without:
        for route in AGENT_ROUTES + MORE_ROUTES:
            refused(without.post(f"/agent/v1/{route}", json={}), 401, "no-certificate")


def test_a_revoked_certificate_is_refused_everywhere(server: ServerProcess) -> None:
    agent = HandAgent(server, next(names))
    stamp = agent.protect()
    token = server.invite(agent.name, "--again")
    with server.client(agent.enrolled["certificate"], agent.enrolled["key"]) as old:
        again = old.post("/agent/v1/enrol", json={"token": token, "machine": agent.machine})
        assert again.json()["primary"] == agent.uuid
        before = picture(server)
        for route in AGENT_ROUTES + MORE_ROUTES:
            refused(old.post(f"/agent/v1/{route}", json={}), 403, "certificate-refused")
    agent.use_lane()
    agent.run = "x"
    with pytest.raises(NotfallError) as caught:
        agent.send("offer", b"")
    assert (caught.value.status, caught.value.code) == (403, "certificate-refused")
    agent.close()
    assert picture(server) == before
    check_newest(server, agent, stamp)


def test_an_agent_reaches_only_its_own_primary(server: ServerProcess, agent: HandAgent) -> None:
    """A's certificate on B's run, and on what is for people and for targets."""
    other = HandAgent(server, next(names))
    other.disk = bytes(reversed(other.disk))
    other.begin()
    other.send("blocks", other.blocks_frame(0, 4))
    own, agent.run = picture(server), other.run
    for what in ("offer", "blocks", "holes"):
        with pytest.raises(NotfallError) as caught:
            agent.send(what, agent.blocks_frame(0, 4))
        assert (caught.value.status, caught.value.code) == (409, "run-over")
    for what in ("progress", "seal", "fail"):
        with pytest.raises(NotfallError) as caught:
            agent.tell(what, {"consistency": "crash"})
        assert (caught.value.status, caught.value.code) == (409, "run-over")
    with server.client(agent.enrolled["certificate"], agent.enrolled["key"]) as known:
        paths = known.get("/api/v1/openapi.json").json()["paths"]
        for path, methods in paths.items():
            if path.startswith("/api/v1"):
                where = path.replace("{name}", other.name).replace("{job}", "x")
                for method in methods:
                    refused(known.request(method, where, json={}), 401, "not-logged-in")
        stamp = server.pool.primary(agent.uuid).need_newest().stamp
        for method, where in (
            ("POST", "register"),
            ("POST", "poll"),
            ("GET", f"index?version={stamp}&disk=0"),
            ("POST", f"want?version={stamp}"),
        ):
            refused(known.request(method, f"/target/v1/{where}", json={}), 401, "no-secret")
    assert picture(server) == own
    other.send_disk()  # B's run was not touched
    check_newest(server, other, other.seal())
    other.close()


# -- frames --------------------------------------------------------------------------------------


def broken_frames(agent: HandAgent) -> list[tuple[str, str, bytes]]:
    """(name, route, frame): each breaks one rule."""
    good = agent.blocks_frame(0, 4)
    entries = agent.entries(0, 4)
    lied = bytearray(good)
    lied[-1] ^= 1
    bomb = bytearray(write_blocks(0, [(0, hash_block(b"x" * BLOCK))], b"x" * BLOCK, ZLIB))
    HEADER.pack_into(bomb, 0, b"NFB2", 0, ZLIB, 1, BLOCK // 2)
    behind = [(FEW, hash_block(agent.disk[:BLOCK]))]
    many = [(0, entries[0][1])] * (BATCH_BLOCKS + 1)
    zero = write_blocks(0, [(0, HOLE)], bytes(BLOCK), PLAIN)
    return [
        ("empty", "blocks", b""),
        ("header only", "blocks", good[: HEADER.size]),
        ("cut in the entries", "blocks", good[: HEADER.size + 30]),
        ("cut in the content", "blocks", good[:-100]),
        ("one byte too many", "blocks", good + b"x"),
        ("wrong magic", "blocks", b"NFB9" + good[4:]),
        ("another frame's magic", "blocks", write_offer(0, entries)),
        ("wrong hash", "blocks", bytes(lied)),
        ("hash of a hole", "blocks", zero),
        ("unknown codec", "blocks", HEADER.pack(b"NFB2", 0, 77, 4, 4 * BLOCK) + good[16:]),
        ("says less than it unpacks to", "blocks", bytes(bomb)),
        ("rubbish to unpack", "blocks", HEADER.pack(b"NFB2", 0, ZLIB, 4, 4 * BLOCK) + good[16:]),
        ("too many blocks", "blocks", write_blocks(0, many, bytes(len(many) * BLOCK), ZLIB)),
        ("behind the end", "blocks", write_blocks(0, behind, agent.disk[:BLOCK], PLAIN)),
        ("no such disk", "blocks", write_blocks(9, entries, agent.disk[: 4 * BLOCK], PLAIN)),
        ("no entries", "blocks", HEADER.pack(b"NFB2", 0, PLAIN, 0, 0)),
        ("offer cut short", "offer", write_offer(0, entries)[:-1]),
        ("offer too long", "offer", write_offer(0, entries) + b"x"),
        ("offer of too many", "offer", write_offer(0, [(0, HOLE)] * (OFFER_BLOCKS + 1))),
        ("offer of the mark of unknown", "offer", write_offer(0, [(0, b"\xff" * 16)])),
        ("offer behind the end", "offer", write_offer(0, [(1 << 63, HOLE)])),
        ("offer for no disk", "offer", write_offer(65535, entries)),
        ("holes behind the end", "holes", write_holes(0, [(FEW - 1, 2)])),
        ("holes that wrap", "holes", write_holes(0, [((1 << 64) - 1, 2)])),
        ("no holes", "holes", write_holes(0, [(0, 0)])),
        ("holes cut short", "holes", write_holes(0, [(0, 1)])[:-3]),
        ("blocks as holes", "holes", good),
    ]


@pytest.mark.parametrize("lane", [False, True], ids=["ordinary", "lane"])
def test_broken_frames_are_refused_and_change_nothing(
    server: ServerProcess, agent: HandAgent, lane: bool
) -> None:
    if lane:
        agent.use_lane()
    stamp = server.pool.primary(agent.uuid).need_newest().stamp
    assert agent.begin()["base"] == stamp
    incoming = server.pool.primary(agent.uuid).paths.incoming
    raw, idx = (incoming / "disk0.raw").read_bytes(), (incoming / "disk0.idx").read_bytes()
    for name, route, frame in broken_frames(agent):
        with pytest.raises(NotfallError) as caught:
            agent.send(route, frame)
        assert (name, caught.value.status, caught.value.code) == (name, 400, "bad-frame")
        assert caught.value.cause and caught.value.remedy, name
    with pytest.raises(NotfallError) as caught:
        agent.send("blocks", bytes(FRAME_LIMIT + 1))
    assert (caught.value.status, caught.value.code) == (413, "too-long")
    assert (incoming / "disk0.raw").read_bytes() == raw == agent.disk
    assert (incoming / "disk0.idx").read_bytes() == idx
    check_newest(server, agent, stamp)
    agent.disk = os.urandom(BLOCK) + agent.disk[BLOCK:]
    agent.send_disk()  # the run itself is not hurt
    check_newest(server, agent, agent.seal())


def test_the_lane_takes_nothing_but_frames_of_agents(
    server: ServerProcess, agent: HandAgent
) -> None:
    agent.begin()
    nobody = Client(server.url, tls_context(server.ca, frames=True), timeout=20)
    for client, path in (
        (agent.connect(lane=True), "/agent/v1/poll"),
        (agent.connect(lane=True), f"/agent/v1/runs/{agent.run}/seal"),
        (agent.connect(lane=True), "/api/v1/status"),
        (nobody, f"/agent/v1/runs/{agent.run}/offer"),
    ):
        with pytest.raises(NotfallError) as caught:
            client.send("POST", path, b"{}")
        assert (path, caught.value.code) == (path, "server-unreachable")  # cut off
        client.close()
    agent.use_lane()
    agent.send_disk()
    check_newest(server, agent, agent.seal())


def test_the_server_hashes_what_comes_without_a_hash(
    server: ServerProcess, agent: HandAgent
) -> None:
    agent.disk = os.urandom(len(agent.disk))
    agent.begin()
    entries = [(number, UNKNOWN) for number in range(FEW)]
    agent.send("blocks", write_blocks(0, entries, agent.disk, PLAIN))
    with pytest.raises(NotfallError) as caught:  # zeros are holes and never sent
        agent.send("blocks", write_blocks(0, [(3, UNKNOWN)], bytes(BLOCK), PLAIN))
    assert caught.value.code == "bad-frame"
    check_newest(server, agent, agent.seal())


def test_a_body_that_ends_early_changes_nothing(server: ServerProcess, agent: HandAgent) -> None:
    """The line is cut within a frame whose header is right."""
    stamp = server.pool.primary(agent.uuid).need_newest().stamp
    agent.begin()
    frame = agent.blocks_frame(0, 4)
    cut = agent.connect()
    cut._once("POST", f"/agent/v1/runs/{agent.run}/progress", [b"{}"], "application/json", 5, 999)
    connection = cut._connection
    assert connection is not None
    head = (
        f"POST /agent/v1/runs/{agent.run}/blocks HTTP/1.1\r\nHost: x\r\n"
        f"Content-Length: {len(frame)}\r\n\r\n"
    )
    connection.sock.sendall(head.encode() + frame[: len(frame) // 2])
    cut.close()
    agent.tell("progress", {})
    check_newest(server, agent, stamp)
    agent.send_disk()
    check_newest(server, agent, agent.seal())


APPLICATION = {"name": "x", "held_ms": 0, "error": "It does not answer."}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"consistency": "perfect"}, "bad-seal"),
        ({}, "bad-seal"),
        ({"consistency": "crash", "applications": [{"name": "x"}]}, "bad-seal"),
        ({"consistency": "crash", "applications": [APPLICATION] * 201}, "bad-seal"),
        ({"consistency": "application", "applications": [APPLICATION]}, "bad-seal"),
        ({"consistency": "crash", "machine": {"hostname": 5}}, "bad-facts"),
        ({"consistency": "crash", "machine": {"hostname": "x", "disks": []}}, "disks-changed"),
    ],
)
def test_a_wrong_seal_makes_no_version(
    server: ServerProcess, agent: HandAgent, body: dict[str, Any], code: str
) -> None:
    stamp = server.pool.primary(agent.uuid).need_newest().stamp
    agent.begin()
    with pytest.raises(NotfallError) as caught:
        agent.tell("seal", body)
    assert (caught.value.status, caught.value.code) == (400, code)
    check_newest(server, agent, stamp)


def test_an_incomplete_run_makes_no_version(server: ServerProcess) -> None:
    """Blocks whose writing was never finished are known as such."""
    agent = HandAgent(server, next(names))
    stamp = agent.protect()
    agent.machine = {**agent.machine, "disks": [{"name": "vda", "size": 2 * len(agent.disk) + 9}]}
    agent.begin()  # the disk grew, so the old last block is unknown
    with pytest.raises(NotfallError) as caught:
        agent.seal()
    assert (caught.value.code, caught.value.retry) == ("incomplete", True)
    agent.close()
    check_newest(server, agent, stamp)


def test_numbers_that_are_no_json_numbers_are_refused(
    server: ServerProcess, agent: HandAgent
) -> None:
    stamp = server.pool.primary(agent.uuid).need_newest().stamp
    agent.begin()
    where = f"/agent/v1/runs/{agent.run}/progress"
    with server.client(agent.enrolled["certificate"], agent.enrolled["key"]) as raw:
        for body in (b"[]", b"{", b"\xff", b"[" * 5000, struct.pack(">Q", 0)):
            refused(raw.post(where, content=body), 400, "bad-json")
        odd = b'{"done": -5, "total": 1e999, "phase": ["x"]}'
        assert raw.post(where, content=odd).json()["cancelled"] is False
    check_newest(server, agent, stamp)


def test_a_seal_may_be_repeated_when_its_answer_was_lost(
    server: ServerProcess, agent: HandAgent
) -> None:
    agent.disk = os.urandom(len(agent.disk))
    agent.begin()
    agent.send_disk()
    stamp = agent.seal()
    assert agent.seal() == stamp
    check_newest(server, agent, stamp)
    with pytest.raises(NotfallError) as caught:
        agent.send_disk()  # but nothing can be added to a version
    assert caught.value.code == "run-over"
    check_newest(server, agent, stamp)


# -- states --------------------------------------------------------------------------------------


def test_only_the_primary_itself_is_ordered_to_replicate(
    server: ServerProcess, agent: HandAgent
) -> None:
    with server.root() as root:
        job = root.post(f"/api/v1/primaries/{agent.name}/replicate").json()["id"]
        assert agent.poll("stand-in") == {"order": "none"}
        assert agent.poll("recovered") == {"order": "none"}
        assert agent.poll("primary", busy=True) == {"order": "none"}
        assert agent.poll("primary") == {"order": "replicate", "job": job, "deep": False}
        with pytest.raises(NotfallError) as caught:
            agent.poll("master")
        assert (caught.value.status, caught.value.code) == (400, "bad-poll")
        assert root.post(f"/api/v1/jobs/{job}/cancel").status_code == 202
    assert server.await_job(job)["state"] == "cancelled"


def test_an_order_right_after_a_cancelled_one_begins_a_run_of_its_own(
    server: ServerProcess, agent: HandAgent
) -> None:
    """The agent has not yet noticed that its run was cancelled when the next order comes."""
    with server.root() as root:
        order = f"/api/v1/primaries/{agent.name}/replicate"
        first = root.post(order).json()["id"]
        assert agent.poll()["order"] == "replicate"
        agent.begin()
        while server.job(first)["progress"]["phase"] != "hot":
            time.sleep(0.1)
        root.post(f"/api/v1/jobs/{first}/cancel")
        assert server.await_job(first)["state"] == "cancelled"
        second = root.post(order).json()["id"]
    assert agent.poll() == {"order": "replicate", "job": second, "deep": False}
    stamp = agent.replicate()
    row = server.await_job(second)
    assert (row["state"], row["result"]["version"]) == ("done", stamp)
    check_newest(server, agent, stamp)


def test_nothing_of_the_original_is_taken_while_a_stand_in_works(
    server: ServerProcess, agent: HandAgent
) -> None:
    stamp = server.pool.primary(agent.uuid).need_newest().stamp
    server.put_in_emergency(agent.uuid)
    with pytest.raises(NotfallError) as caught:
        agent.begin()
    assert (caught.value.status, caught.value.code) == (409, "stand-in-works")
    assert "notfall recover" in caught.value.remedy
    # Nobody can tell here whether the machine of the stand-in runs.
    assert agent.poll("primary")["order"] in ("none", "stay-off")
    with server.root() as root:
        answer = root.post(f"/api/v1/primaries/{agent.name}/replicate")
        refused(answer, 409, "stand-in-works")
        journal = root.get("/api/v1/journal", params={"primary": agent.name}).json()
    assert "original-returned" in {one["event"] for one in journal}
    assert not server.pool.primary(agent.uuid).paths.incoming.exists()
    check_newest(server, agent, stamp)
    assert read_json(server.pool.primary(agent.uuid).paths.record)["name"] == agent.name


def test_an_original_that_keeps_off_is_told_of_and_is_no_sign_of_life(
    server: ServerProcess, agent: HandAgent
) -> None:
    def keep_off(boot: str) -> bool:
        body = {"boot_id": boot, "recovery": "", "because": "stand-in"}
        stay: bool = agent.client.call("POST", "/agent/v1/kept-off", body)["stay"]
        return stay

    assert not keep_off("early")  # there is no stand-in
    server.put_in_emergency(agent.uuid)
    with server.root() as root:
        before = root.get(f"/api/v1/primaries/{agent.name}").json()["last_seen"]
        assert [keep_off(boot) for boot in ("one", "one", "two")] == [True] * 3
        assert root.get(f"/api/v1/primaries/{agent.name}").json()["last_seen"] == before
        journal = root.get("/api/v1/journal", params={"primary": agent.name}).json()
        assert [one["event"] for one in journal].count("original-kept-off") == 2
        german = {"Accept-Language": "de"}
        page = root.get(f"/journal?primary={agent.name}", headers=german).text
    assert "es bleibt von selbst dem Netz fern" in page
    near = agent.poll("stand-in", near=True)["near"]
    assert all(one.startswith("fe80:") for one in near)


def test_a_replication_that_cannot_begin_says_why(server: ServerProcess, agent: HandAgent) -> None:
    with server.root() as root:
        job = root.post(f"/api/v1/primaries/{agent.name}/replicate").json()["id"]
    assert agent.poll()["order"] == "replicate"
    told = NotfallError("no-such-disk", "There is no disk sdz.", "Repair disks in agent.json.")
    agent.poll(failed=told.to_json())
    row = server.await_job(job)
    assert (row["state"], row["error"]["code"]) == ("failed", "no-such-disk")
    assert row["error"]["remedy"] == told.remedy


def test_a_deep_run_is_ordered_and_what_it_finds_is_told_loudly(
    server: ServerProcess, agent: HandAgent
) -> None:
    agent.begin()  # not deep, and a job of its own
    with server.root() as root:
        path, wish = f"/api/v1/primaries/{agent.name}/replicate", {"deep": True}
        refused(root.post(path, json=wish), 409, "replication-under-way")
        agent.send_disk()
        agent.seal()
        end = time.monotonic() + PATIENCE_S
        while (answer := root.post(path, json=wish)).status_code == 409:
            assert time.monotonic() < end
            time.sleep(0.1)
        job = answer.json()
        order = agent.poll()
        assert (order["order"], order["deep"]) == ("replicate", True)
        agent.begin()
        agent.send_disk()
        stamp = agent.seal(deep=True, unexplained=3, read_all=False)
        assert agent.tell("seal", {}) == {"version": stamp}  # and journals nothing twice
        result = server.await_job(job["id"])["result"]
        assert (result["deep"], result["unexplained_blocks"]) == (True, 3)
        deep = root.get(f"/api/v1/primaries/{agent.name}").json()["deep"]
        assert (deep["unexplained"], deep["found_in"], deep["days"]) == (3, stamp, 14)
        page = root.get("/tiles", headers={"Accept-Language": "de"}).text
        assert "fand 3 Blöcke, die sich unbemerkt geändert hatten" in page
        journal = root.get("/api/v1/journal", params={"primary": agent.name}).json()
        assert [one["event"] for one in journal].count("unseen-changes") == 1
    assert "UNSEEN CHANGES" in server.notfall("primary", "show", agent.name).stdout
    done = server.notfall("primary", "schedule", agent.name, "--deep-days", "3")
    assert "deep run every 3 days" in done.stdout
    assert "--deep" in server.notfall("replicate", "--help").stdout
