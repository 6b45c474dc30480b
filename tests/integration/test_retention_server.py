"""Retention on a real server and pool, by its command line: from the rules to a full pool."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hand_agent import HandAgent
from server_process import ServerProcess, running
from test_scrub import change, renew

from notfall_lab.patience import PATIENCE_S
from notfallserver.server.cycle.retention.deletions import DELETIONS
from notfallserver.server.host.files import read_json, replace_json
from notfallserver.server.host.immutable import is_immutable, release_tree
from notfallserver.server.pool.layout import make_stamp
from notfallserver.server.pool.version import check_version
from notfallserver.server.records.people import Role
from notfallserver.wire.blocks import BLOCK

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
FEW = {"all_hours": 0, "hourly": 0, "daily": 2, "weekly": 0, "monthly": 0, "yearly": 0}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with running(ServerProcess(tmp_path, {"pool_image_gib": 1})) as server:
        yield server


@pytest.fixture
def agent(server: ServerProcess) -> Iterator[HandAgent]:
    """Its primary has a version of each of the last days; each alone holds one block."""
    agent = HandAgent(server, "shop", os.urandom(32 * BLOCK))
    agent.protect()
    for _ in range(4):
        change(agent, 0)
        renew(agent)
    store = server.pool.primary(agent.uuid)
    for days, version in enumerate(store.versions()[1:], 1):
        age(version.path, datetime.now(UTC) - timedelta(days=days))
    yield agent
    agent.close()


def age(directory: Path, moment: datetime) -> None:
    """As if a version had been made then."""
    release_tree(directory)
    stamp = make_stamp(moment)
    told = read_json(directory / "manifest.json")
    replace_json(directory / "manifest.json", {**told, "stamp": stamp})
    directory.rename(directory.with_name(stamp))


def notfall(server: ServerProcess, *arguments: str) -> str:
    done = server.notfall(*arguments)
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


def ask(server: ServerProcess, path: str, body: dict[str, Any] | None = None) -> Any:
    with server.root() as root:
        where = f"/api/v1/{path}"
        answer = root.get(where) if body is None else root.post(where, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None


def journal(server: ServerProcess, event: str) -> list[dict[str, Any]]:
    entries = ask(server, "journal?primary=shop&limit=200")
    return [one for one in entries if one["event"] == event]


def free(server: ServerProcess) -> int:
    where = os.statvfs(server.data / "pool")
    return where.f_bfree * where.f_frsize


def run(server: ServerProcess) -> dict[str, Any]:
    job = server.await_job(ask(server, "retention/run", {})["id"])
    assert job["state"] == "done", job
    result: dict[str, Any] = job["result"]
    return result


def test_from_the_rules_to_a_full_pool(server: ServerProcess, agent: HandAgent) -> None:
    store = server.pool.primary(agent.uuid)
    stamps = [one.stamp for one in store.versions()]
    assert len(stamps) == 5 and "protected against change" in notfall(server, "server", "status")
    run(server)  # by the usual rules all stay; and those that were aged are protected again
    assert all(is_immutable(one.raw(0)) for one in store.versions())

    notfall(server, "version", "pin", "shop", stamps[4], "--reason", "before the upgrade")
    rules = {**FEW, "floor_days": 1}
    seen = ask(server, "primaries/shop/retention/preview", {**rules, "each": True})
    going = [one["stamp"] for one in seen["versions"] if one["goes"]]
    assert going == stamps[2:4] and seen["going"] == 2
    assert seen["versions"][2]["alone"] >= BLOCK and seen["frees"] >= 2 * BLOCK
    options = [f"--{key.replace('_', '-')}={value}" for key, value in rules.items()]
    preview = notfall(server, "retention", "preview", "shop", *options)
    assert "would delete 2, frees" in preview and "pinned by root: before the upgrade" in preview
    assert "its own" in notfall(server, "retention", "set", "shop", *options)
    result = run(server)
    gone = journal(server, "version-removed")
    assert sum(one["details"]["freed"] for one in gone) >= seen["frees"]
    assert [one.stamp for one in store.versions()] == [*stamps[:2], stamps[4]]
    assert result["removed"] in (0, 2)  # the server may have been quicker
    assert all(check_version(one) == [] for one in store.versions())

    ask(server, f"primaries/shop/versions/{stamps[4]}/unpin", {})
    with server.catalogue() as catalogue:
        catalogue.people.add("eva", "four words in a row", Role.ADMINISTRATOR, "root")
        token = catalogue.sessions.open("eva", "")
    ask(server, "primaries/shop/retention", {"clear": True})
    due = notfall(server, "version", "delete", "shop", stamps[1], "--reason", "private")
    assert "if another administrator confirms it (ordered by root)" in due
    where = f"/api/v1/primaries/shop/versions/{stamps[1]}"
    with server.client(headers={"Authorization": f"Bearer {token}"}) as eva:
        assert not eva.post(f"{where}/confirm-deletion").json()["awaits_second"]
    assert "will be deleted on" in notfall(server, "versions", "shop")
    notfall(server, "version", "undelete", "shop", stamps[1])
    ask(server, f"primaries/shop/versions/{stamps[1]}/delete", {})
    with server.root() as root:
        refused = root.post(f"/api/v1/primaries/shop/versions/{stamps[0]}/delete", json={})
        assert refused.json()["code"] == "version-must-stay"
        again = root.post(f"{where}/confirm-deletion", json={})
        assert again.json()["code"] == "same-person"
    with server.client(headers={"Authorization": f"Bearer {token}"}) as eva:
        assert eva.post(f"{where}/confirm-deletion").status_code == 202
    with server.catalogue() as catalogue:
        notes = catalogue.primaries.find("shop").notes[DELETIONS]
        past = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
        notes[stamps[1]]["due"] = past
        catalogue.primaries.note(agent.uuid, **{DELETIONS: notes})
    server.kill()
    server.start()  # orders outlive a kill; the first look carries out what is due
    until = time.monotonic() + PATIENCE_S
    while any(one.stamp == stamps[1] for one in store.versions()):
        assert time.monotonic() < until
        time.sleep(0.2)

    ask(server, "primaries/shop/retention", {"floor_days": 1})
    ballast = server.data / "pool" / "ballast"
    with ballast.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, free(server) - (30 << 20))
    result = run(server)  # 5 % of 1 GiB are not free any more
    assert [one.stamp for one in store.versions()] == stamps[:1]
    assert journal(server, "version-given-up") and journal(server, "version-deleted")
    ballast.unlink()
