"""A lost server made again: what is refused, and in which state its primaries are afterwards."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from notfallserver.server.authority import create_authority
from notfallserver.server.cli import rebuilding
from notfallserver.server.cycle.rebuild import (
    find_alive,
    order_restores,
    refuse_over_existing,
    settle,
)
from notfallserver.server.cycle.state import State
from notfallserver.server.offload.own import put_back, read_told, stage_server
from notfallserver.server.offload.restic import Snapshot
from notfallserver.server.pool.store import Pool
from notfallserver.server.records import open_catalogue
from notfallserver.wire.errors import NotfallError


def test_a_server_or_a_pool_is_never_replaced(tmp_path: Path) -> None:
    data, pool = tmp_path / "data", tmp_path / "pool"
    refuse_over_existing(data, pool, from_pool=False)
    version = pool / str(uuid4()) / "versions" / "20261123T101500.000Z"
    version.mkdir(parents=True)
    (version / "manifest.json").touch()
    with pytest.raises(NotfallError) as refused:
        refuse_over_existing(data, pool, from_pool=False)
    assert refused.value.code == "pool-not-empty"
    refuse_over_existing(data, pool, from_pool=True)
    data.mkdir()
    (data / "catalogue.db").touch()
    with pytest.raises(NotfallError) as refused:
        refuse_over_existing(data, pool, from_pool=True)
    assert refused.value.code == "server-exists"


@pytest.mark.parametrize("state", list(State))
def test_each_state_that_lived_in_the_lost_server_is_left(tmp_path: Path, state: State) -> None:
    """By the table's own ways; nothing is in a state that would start something by itself."""
    catalogue, pool = open_catalogue(tmp_path), Pool(tmp_path / "pool")
    uuid = str(uuid4())
    catalogue.primaries.adopt_primary(uuid, "shop", None, "20261123T101500.000Z", state, 60, 15)
    catalogue.primaries.note(uuid, recovery={"target": "x"})
    job, _ = catalogue.jobs.add("activate", uuid, {}, "anna")
    settled = settle(catalogue, pool)
    row = catalogue.primaries.find("shop")
    ran = state in (State.ACTIVATING, State.EMERGENCY, State.RECOVERING, State.SWITCHING_BACK)
    wanted = State.OUTAGE if ran else state
    if state in (State.REHEARSING, State.HANDING_OVER):
        wanted = State.NORMAL
    assert row.state == wanted and "recovery" not in row.notes
    assert settled.outage == (("shop",) if ran else ())
    assert row.newest_version == ""  # what its pool held is gone
    assert catalogue.jobs.find(job.id).error["code"] == "server-lost"  # type: ignore[index]
    assert catalogue.jobs.unfinished() == []
    catalogue.close()


def test_versions_come_in_the_order_of_the_start_plan(tmp_path: Path) -> None:
    catalogue = open_catalogue(tmp_path)
    uuids = {name: str(uuid4()) for name in ("mail", "files", "shop", "new")}
    for name, uuid in uuids.items():
        catalogue.primaries.adopt_primary(uuid, name, None, "", State.NORMAL, 60, 15)
    catalogue.start_plan.change(
        lambda known: sorted(known, key=lambda one: one.primary != uuids["shop"]), "anna"
    )
    contents = [
        Snapshot("s", "2026-11-27T00:00:00Z"),
        *(
            Snapshot(name, "", uuids[name], "20261123T101500.000Z", name)
            for name in uuids
            if name != "new"
        ),
    ]
    named = order_restores(catalogue, contents, {"place": "p"})
    assert named[0] == "shop" and sorted(named) == ["files", "mail", "shop"]
    jobs = catalogue.jobs.unfinished(kind="offload_restore")
    assert [one.primary for one in jobs] == [uuids[one] for one in named]
    catalogue.close()


def test_the_server_itself_comes_back_whole(tmp_path: Path) -> None:
    """While its catalogue is open: the copy is a consistent one."""
    data, pool = tmp_path / "data", Pool(tmp_path / "pool")
    data.mkdir()
    authority = create_authority(data / "ca")
    catalogue = open_catalogue(data)
    store = pool.add_primary(str(uuid4()), "shop")
    catalogue.people.keep_administrator("anna", "correct horse battery", "root")
    stage_server(tmp_path / "own", data, pool.root, {"listen_port": 9443}, ["https://h:9443"])
    catalogue.journal.write(None, "later", "anna")
    catalogue.close()
    assert (tmp_path / "own").stat().st_mode & 0o077 == 0
    assert read_told(tmp_path / "own")["settings"] == {"listen_port": 9443}
    new, other = tmp_path / "new", tmp_path / "other"
    new.mkdir()
    other.mkdir()
    put_back(tmp_path / "own", new, other)
    assert create_authority(new / "ca").fingerprint == authority.fingerprint
    assert (new / "ca" / "ca.key").stat().st_mode & 0o077 == 0
    again = open_catalogue(new)
    assert again.people.has_administrator()
    assert "later" not in again.journal.events()
    again.close()
    assert Pool(other).primaries() == [(store.uuid, "shop")]


def test_who_does_not_answer_is_not_alive(tmp_path: Path) -> None:
    authority = create_authority(tmp_path / "ca")
    assert find_alive(["https://127.0.0.1:1", "https://"], authority.ca_pem) == ""


def test_addresses_of_the_lost_machine_are_not_those_of_the_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rebuilding, "host_addresses", lambda _: ["198.51.100.7", "fd00::7"])
    urls = ["https://198.51.100.5:8443", "https://name.example", "https://198.51.100.7:1"]
    assert rebuilding.still_own([*urls, "https://[fd00::5]", "https://[fd00::7]"]) == [
        *urls[1:],
        "https://[fd00::7]",
    ]
