"""Checking versions in a real pool: damage behind the server's back is found, repaired or told.

Damage comes in two ways: a file is written to (which touches one version only, for shared blocks
are copied before), or the device below the pool is, which touches all versions that share the
place.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from agent_process import AgentProcess
from agent_receiver import loop_device
from hand_agent import HandAgent, Serving
from rescue_target import SIZE, Target, Working, await_state, ready, recover
from server_process import ServerProcess, running
from test_capture import first_version, pool

from notfall_lab.patience import PATIENCE_S
from notfallserver.server.cycle.emergency.capture import capture
from notfallserver.server.host.clone import extents
from notfallserver.server.host.immutable import is_immutable, release_tree
from notfallserver.server.pool.repair import inherited_damage, repair_blocks
from notfallserver.server.pool.scrub import Twin, check_blocks
from notfallserver.server.pool.store import Pool, PrimaryStore
from notfallserver.server.pool.version import Version, check_version
from notfallserver.wire.blocks import BLOCK, HASH, Run
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk
from notfallserver.wire.frames import write_blocks, write_offer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
__all__ = ["pool"]

ROTTEN = b"rotten"


def damage_file(path: Path, offset: int) -> None:
    unprotect(path)
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(ROTTEN)


def unprotect(path: Path) -> None:
    """Damage comes from below; here it comes through the file, which must let it."""
    release_tree(path.parent)


def damage_device(
    image: Path, path: Path, number: int, offset: int = 0, content: bytes = ROTTEN
) -> None:
    """Change a block where it lies below the pool's filesystem."""
    (place,) = (
        one.place + number * BLOCK - one.start
        for one in extents(path)
        if one.start <= number * BLOCK < one.start + one.length
    )
    with image.open("r+b") as device:
        device.seek(place + offset)
        device.write(content)
        os.fsync(device.fileno())


def checked(version: Version, twin: Twin | None = None) -> tuple[list[Run], int]:
    """What is damaged, and how many blocks were read to know it."""
    stretches = list(check_blocks(version, version.manifest.disks[0], twin))
    bad = [run for one in stretches for run in one.bad]
    return bad, sum(one.read for one in stretches) // BLOCK


def captured(store: PrimaryStore, *numbers: int) -> Version:
    """A version that differs from the last one in some blocks and shares the rest."""
    with store.preparing(store.need_newest()) as clones:
        store.seal_prepared(clones, {})
    prepared = store.newest_prepared()
    assert prepared is not None
    store.retire_standin()
    standin = store.make_standin(prepared, {})
    for number in numbers:
        damage_file(standin.disks[0], number * BLOCK)
    return capture(store, standin, nullcontext(), "crash").version


def test_what_versions_share_is_read_once_and_its_damage_found_in_all(
    pool: Pool, tmp_path: Path
) -> None:
    store = pool.add_primary(str(uuid4()), "shop")
    old = first_version(store)
    new = captured(store, 5, 101, 399)  # 5 was a hole
    assert checked(new) == ([], 321)
    twin = Twin(new)
    bad, read = checked(old, twin)
    assert bad == [] and 2 <= read <= 6  # the two that were replaced, and holes beside them
    damage_device(tmp_path / "pool.img", new.raw(0), 17)
    damage_device(tmp_path / "pool.img", old.raw(0), 101)
    damage_file(old.raw(0), 222 * BLOCK)
    bad, _ = checked(new)
    assert bad == [(17, 1)]
    bad, read = checked(old, Twin(new, {0: bad}))
    assert bad == [(17, 1), (101, 1), (222, 1)] and read < 10
    assert checked(old)[0] == bad

    (disk,) = old.manifest.disks
    done = repair_blocks(store, old, disk, bad)
    assert done.left == [(17, 1), (101, 1)]
    assert done.sources == {f"version {new.stamp}"}
    assert checked(old)[0] == done.left


def test_a_capture_takes_over_what_the_stand_in_has_and_says_so(pool: Pool, tmp_path: Path) -> None:
    store = pool.add_primary(str(uuid4()), "shop")
    base = first_version(store)
    damage_device(tmp_path / "pool.img", base.raw(0), 17)
    unknowing = captured(store, 50)
    assert checked(unknowing)[0] == [(17, 1)]
    assert inherited_damage(unknowing, base, {0: [(17, 1)]}) == {0: [(17, 1)]}
    store.health.change(unknowing.stamp, lambda one: one.with_blocks(0, [(17, 1)]))
    knowing = captured(store, 51)
    assert knowing.manifest.base == unknowing.stamp
    assert checked(knowing)[0] == [] and check_version(knowing) == []
    assert checked(base)[0] == checked(unknowing)[0] == [(17, 1)]


def test_a_capture_is_not_built_on_a_damaged_index(pool: Pool) -> None:
    store = pool.add_primary(str(uuid4()), "shop")
    base = first_version(store)
    before = base.idx(0).read_bytes()
    damage_file(base.idx(0), 17 * HASH)
    after = captured(store)
    assert after.idx(0).read_bytes() == before
    assert checked(after)[0] == []


# -- the server ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {"scrub_mib_s": 0}
    with running(ServerProcess(tmp_path_factory.mktemp("scrub"), settings)) as server:
        yield server


@pytest.fixture
def agent(server: ServerProcess) -> Iterator[HandAgent]:
    agent = HandAgent(server, f"p{uuid4().hex[:8]}", os.urandom(64 * BLOCK))
    agent.protect()
    yield agent
    agent.close()


def renew(agent: HandAgent) -> list[int]:
    """Replicate on order as an agent that offers all blocks; returns what was wanted of it."""
    wanted: list[int] = []

    def offer_all() -> None:
        agent.begin()
        entries = agent.entries(0, len(agent.disk) // BLOCK)
        bitmap = agent.send("offer", write_offer(0, entries))
        for number, digest in entries:
            if bitmap[number >> 3] & (0x80 >> (number & 7)):
                wanted.append(number)
                content = agent.disk[number * BLOCK : (number + 1) * BLOCK]
                agent.send("blocks", write_blocks(0, [(number, digest)], content, 0))
        agent.seal()

    server = agent._server
    with server.root() as root, Serving(agent, offer_all):
        job = root.post(f"/api/v1/primaries/{agent.name}/replicate").json()
        assert server.await_job(job["id"])["state"] == "done"
    agent.leave.clear()
    return wanted


def scrub(agent: HandAgent, *options: str) -> dict[str, Any]:
    done = agent._server.notfall("scrub", agent.name, "--follow", "--json", *options)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])["result"]
    return result


def journal(agent: HandAgent, event: str) -> list[dict[str, Any]]:
    shown = agent._server.notfall("journal", agent.name, "--json")
    return [one for one in json.loads(shown.stdout) if one["event"] == event]


def versions(agent: HandAgent) -> list[Version]:
    return agent._server.pool.primary(agent.uuid).versions()


def damage_of(agent: HandAgent) -> list[tuple[int, bool]]:
    """Damaged blocks and whether they are lost, of each version."""
    shown = agent._server.notfall("versions", agent.name, "--json")
    return [(one["damage"]["blocks"], one["damage"]["lost"]) for one in json.loads(shown.stdout)]


def change(agent: HandAgent, number: int) -> None:
    agent.disk = (
        agent.disk[: number * BLOCK] + os.urandom(BLOCK) + agent.disk[(number + 1) * BLOCK :]
    )


def test_damage_in_one_version_is_repaired_from_another(agent: HandAgent) -> None:
    change(agent, 3)
    assert renew(agent) == [3]
    new, old = versions(agent)
    result = scrub(agent)
    assert (result["versions"], result["damaged_blocks"], result["left_blocks"]) == (2, 0, 0)
    assert 64 * BLOCK <= result["bytes_read"] < 80 * BLOCK < result["bytes_checked"]
    assert "CHECKED" in agent._server.notfall("versions", agent.name).stdout
    for number in (0, 9, 63):
        damage_file(new.raw(0), number * BLOCK)
    damage_file(old.raw(0), 10 * BLOCK)
    result = scrub(agent)
    assert (result["damaged_blocks"], result["repaired_blocks"]) == (4, 4)
    assert check_version(new) == [] == check_version(old)
    assert damage_of(agent) == [(0, False), (0, False)]
    (told,) = [one for one in journal(agent, "version-damaged") if "3 blocks" in one["why"]]
    assert told["details"] == {
        "version": new.stamp,
        "count": 3,
        "blocks": {"0": [[0, 1], [9, 1], [63, 1]]},
        "indexes": [],
    }
    sources = [one["details"]["from"] for one in journal(agent, "version-repaired")]
    assert sorted(sources) == sorted([[f"version {old.stamp}"], [f"version {new.stamp}"]])


def test_what_is_shared_is_repaired_by_the_next_replication(
    server: ServerProcess, agent: HandAgent
) -> None:
    assert renew(agent) == []
    change(agent, 40)
    new, old = versions(agent)
    for number in (7, 40):
        damage_device(server.data / "pool.img", new.raw(0), number)
    result = scrub(agent)
    assert (result["damaged_blocks"], result["left_blocks"]) == (4, 4)
    assert damage_of(agent) == [(2, False), (2, False)]
    assert "2 blocks DAMAGED" in server.notfall("versions", agent.name).stdout
    assert "DAMAGED" in server.notfall("server", "status").stdout
    assert "DAMAGED" in server.notfall("primary", "show", agent.name).stdout
    scrub(agent)
    assert len(journal(agent, "version-damaged")) == 2  # the second check found nothing new

    begun = agent.begin()  # an agent that tracks writes must offer all, too
    assert begun["base"] == "" and begun["resumed"]
    assert renew(agent) == [7, 40]  # only what is damaged, of which 40 has changed as well
    assert check_version(versions(agent)[0]) == []
    # 7 is right in all versions now; what 40 was, nobody knows any more.
    assert damage_of(agent) == [(0, False), (1, True), (1, True)]
    assert checked(old)[0] == checked(new)[0] == [(40, 1)]
    assert check_version(old) == []  # the page cache still remembers: it must not be asked
    assert len(journal(agent, "version-lost")) == 2
    assert "lost" in server.notfall("versions", agent.name).stdout
    with server.root() as root:
        assert root.get(f"/api/v1/primaries/{agent.name}").json()["damaged_versions"] == 2
        assert root.get("/api/v1/status").json()["damaged_versions"] >= 2


def test_damage_found_during_a_run_is_known_of_the_new_version(
    server: ServerProcess, agent: HandAgent
) -> None:
    (old,) = versions(agent)
    damage_device(server.data / "pool.img", old.raw(0), 11)
    agent.begin()
    assert agent._server.pool.primary(agent.uuid).paths.incoming.exists()
    assert scrub(agent)["left_blocks"] == 1
    with server.root() as root:  # the run under way is followed by a job
        until = time.monotonic() + PATIENCE_S
        agent.seal()
        while len(damage_of(agent)) < 2 or damage_of(agent)[0] != (1, False):
            assert time.monotonic() < until, damage_of(agent)
            time.sleep(0.2)
        assert root.get(f"/api/v1/primaries/{agent.name}").json()["damaged_versions"] == 2
    assert renew(agent) == [11]
    assert [one[0] for one in damage_of(agent)] == [0, 0, 0]
    assert all(checked(one)[0] == [] for one in versions(agent))


def test_a_damaged_index_is_mended_before_anything_is_built_on_it(agent: HandAgent) -> None:
    (old,) = versions(agent)
    before = old.idx(0).read_bytes()
    damage_file(old.idx(0), 5 * HASH)
    with pytest.raises(NotfallError) as refused:
        agent.begin()
    assert (refused.value.code, refused.value.status) == ("version-damaged", 409)
    job = refused.value.remedy.rpartition(" ")[2]
    result = agent._server.await_job(job)["result"]
    assert (result["damaged_blocks"], result["damaged_versions"]) == (0, 0)
    assert old.idx(0).read_bytes() == before
    assert "index" in journal(agent, "version-repaired")[0]["why"]
    assert renew(agent) == []


def test_a_lost_file_and_a_lost_index_come_back(agent: HandAgent) -> None:
    assert renew(agent) == []
    new, old = versions(agent)
    unprotect(new.raw(0))
    unprotect(old.raw(0))
    new.raw(0).unlink()
    os.truncate(old.raw(0), len(agent.disk) + 5)
    new.idx(0).unlink()
    old.idx(0).unlink()
    scrub(agent)
    scrub(agent)  # what the first version needed of the second is there only now
    assert check_version(old) == [] == check_version(new)
    assert new.raw(0).read_bytes() == agent.disk
    assert all(is_immutable(path) for path in (old.path, new.raw(0), new.idx(0), old.idx(0)))
    assert damage_of(agent) == [(0, False), (0, False)]


def test_one_version_can_be_checked_alone(agent: HandAgent) -> None:
    assert renew(agent) == []
    new, old = versions(agent)
    damage_file(new.raw(0), 0)
    assert scrub(agent, "--version", old.stamp)["damaged_blocks"] == 0
    assert scrub(agent, "--version", new.stamp)["repaired_blocks"] == 1
    wrong = agent._server.notfall("scrub", agent.name, "--version", "20200101T000000.000Z")
    assert wrong.returncode == 1 and "unknown-version" in wrong.stderr
    unprotect(old.raw(0))
    (old.path / "manifest.json").write_text("{")
    assert scrub(agent)["unreadable_versions"] == 1
    assert journal(agent, "version-unreadable")[0]["details"] == {"version": old.stamp}


def test_a_check_goes_on_after_the_server_was_killed_or_a_version_removed(tmp_path: Path) -> None:
    settings = {"scrub_mib_s": 2, "scrub_days": 7}
    with running(ServerProcess(tmp_path, settings)) as server:
        agent = HandAgent(server, "slow", os.urandom(320 * BLOCK))
        agent.protect()
        for number in range(0, 320, 2):
            change(agent, number)
        assert len(renew(agent)) == 160
        change(agent, 9)
        assert renew(agent) == [9]
        new, middle, _ = versions(agent)
        damage_file(new.raw(0), 9 * BLOCK)
        damage_file(new.raw(0), 301 * BLOCK)
        with server.root() as root:
            job = root.post("/api/v1/primaries/slow/scrub", json={}).json()
        until = time.monotonic() + PATIENCE_S
        while damage_of(agent)[0][0] == 0:
            assert time.monotonic() < until
            time.sleep(0.1)
        server.kill()
        server.start()
        assert damage_of(agent)[0][0] >= 1
        server.pool.primary(agent.uuid).remove_version(middle.stamp)
        assert server.stop() < 10
        server.start()
        row = server.await_job(job["id"])
        assert row["state"] == "done", row
        # What only the removed version held as well is left for the next replication.
        assert damage_of(agent) == [(1, False), (0, False)]
        assert renew(agent) == [9]
        assert damage_of(agent)[:2] == [(0, False), (0, False)]
        assert all(checked(one)[0] == [] for one in versions(agent))
        agent.close()


def test_versions_are_checked_on_schedule(tmp_path: Path) -> None:
    with running(ServerProcess(tmp_path, {"scrub_days": 1})) as server:
        agents = [HandAgent(server, name) for name in ("one", "two", "new")]
        for agent in agents:
            agent.protect()
        # The one that is due first is told first: the server may look between the two.
        for agent, last in ((agents[1], "2020-01-01"), (agents[0], "2020-02-01")):
            server.pool.primary(agent.uuid).health.complete(f"{last}T00:00:00+00:00")
        until = time.monotonic() + PATIENCE_S
        rows: list[dict[str, Any]] = []
        while len(rows) < 2 or not all(one["finished_at"] for one in rows):
            assert time.monotonic() < until, rows
            time.sleep(0.5)
            with server.root() as root:
                jobs = root.get("/api/v1/jobs").json()
            rows = [one for one in jobs if one["kind"] == "scrub"]
        assert [(one["name"], one["who"], one["state"]) for one in reversed(rows)] == [
            ("two", "schedule", "done"),
            ("one", "schedule", "done"),
        ]
        for agent in agents:
            agent.close()


def test_a_recovery_refuses_damage_and_then_takes_what_the_stand_in_has(
    machineless: ServerProcess,
    in_emergency: HandAgent,
    target_disk: Disk,
    boot: Callable[..., Target],
) -> None:
    server, agent = machineless, in_emergency
    store = server.pool.primary(agent.uuid)
    number = SIZE // BLOCK - 3
    damage_device(server.data / "pool.img", store.need_newest().raw(0), number)
    target = boot(target_disk)
    target.register()
    with Working(target) as working:
        failed = server.await_job(recover(server, agent, target))
        assert failed["error"]["code"] == "version-damaged", failed
        await_state(server, agent, "emergency")
        with server.root() as root:
            jobs = root.get(f"/api/v1/jobs?primary={agent.name}").json()
        (check,) = [one["id"] for one in jobs if one["kind"] == "scrub"]
        assert server.await_job(check)["result"]["left_blocks"] == 2
        assert damage_of(agent) == [(1, False), (1, False)]

        second = boot(target_disk)
        second.register()
        working.over.set()
        with Working(second):
            recover(server, agent, second)
            until = time.monotonic() + PATIENCE_S
            while not ready(server, agent):
                assert time.monotonic() < until, server.log()[-3000:]
                time.sleep(0.3)
        server.notfall("undo", agent.name)
    assert journal(agent, "damage-in-stand-in")
    newest = store.need_newest()
    assert checked(newest)[0] == []
    assert ROTTEN in newest.raw(0).read_bytes()[number * BLOCK : (number + 1) * BLOCK]
    assert damage_of(agent)[-2:] == [(1, True), (1, True)]


def test_the_real_agent_sends_just_what_is_damaged(server: ServerProcess, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(os.urandom(100 * BLOCK))
    with ExitStack() as stack:
        device = stack.enter_context(loop_device(image))
        agent = AgentProcess(server, "real", [device])
        stack.callback(agent.stop)
        agent.start()
        results: list[dict[str, Any]] = []
        for _ in range(4):
            if len(results) == 2:  # by now a tracker knows that nothing was written
                (new, old) = server.pool.primary(agent.uuid).versions()
                damage_device(server.data / "pool.img", new.raw(0), 33)
                assert server.notfall("scrub", "real", "--follow").returncode == 0
                assert checked(new)[0] == checked(old)[0] == [(33, 1)]
            with server.root() as root:
                job = root.post("/api/v1/primaries/real/replicate").json()
            row = server.await_job(job["id"])
            assert row["state"] == "done", (row, agent.log())
            results.append(row["result"])
        assert results[2]["read_all"] and results[2]["bytes_changed"] == BLOCK
        assert results[2]["bytes_sent"] < 2 * BLOCK < 100 * BLOCK <= results[0]["bytes_sent"]
        assert results[1]["read_all"] == results[3]["read_all"]  # as the tracker allows
        assert [checked(one)[0] for one in server.pool.primary(agent.uuid).versions()] == [[]] * 4
