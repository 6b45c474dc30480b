"""What an off-load carries: what is not there yet, of those it is for, and nothing damaged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from notfallserver.server.cycle.offloads.carry import _wanted
from notfallserver.server.cycle.offloads.restores import pick
from notfallserver.server.cycle.refusals import awaits_restore
from notfallserver.server.cycle.state import State
from notfallserver.server.offload.place import Kind, Place
from notfallserver.server.offload.restic import Snapshot, _snapshot
from notfallserver.server.pool.incoming import utc_now
from notfallserver.server.pool.store import Pool, PrimaryStore
from notfallserver.server.pool.version import Manifest
from notfallserver.server.records import Catalogue, open_catalogue
from notfallserver.wire.blocks import BLOCK, hash_block
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine
from notfallserver.wire.frames import PLAIN, write_blocks

PLACE = Place("p", "nas", Kind.DIRECTORY, "/mnt/nas")


@pytest.fixture
def means(tmp_path: Path) -> Iterator[Any]:
    catalogue, pool = open_catalogue(tmp_path), Pool(tmp_path / "pool")
    yield SimpleNamespace(catalogue=catalogue, pool=pool)
    catalogue.close()


def add(means: Any, name: str, versions: int = 1) -> PrimaryStore:
    catalogue: Catalogue = means.catalogue
    uuid = str(uuid4())
    catalogue.primaries.adopt_primary(uuid, name, None, "", State.NORMAL, 60, 15)
    store: PrimaryStore = means.pool.add_primary(uuid, name)
    for number in range(versions):
        data = bytes([number + 1]) * BLOCK
        incoming = store.open_incoming(f"run{number}", [Disk("vda", BLOCK)])
        with incoming:
            incoming.receive(write_blocks(0, [(0, hash_block(data))], data, PLAIN))
        incoming.seal(
            Manifest(
                primary=uuid,
                name=name,
                stamp=store.fresh_stamp(),
                kind="replication",
                consistency="crash",
                base="",
                machine=Machine(name, disks=[Disk("vda", BLOCK)]),
                disks=(),
                started_at=utc_now(),
                sealed_at=utc_now(),
            )
        )
    return store


def wanted(means: Any, wish: dict[str, Any], *there: tuple[str, str], **place: Any) -> list[str]:
    contents = [Snapshot(stamp, "", uuid, stamp) for uuid, stamp in there]
    made = Place(**{**PLACE.to_json(), "kind": Kind.DIRECTORY, "keep": PLACE.keep, **place})
    loads, broken = _wanted(means, made, contents, wish, wish.get("deep") is True)
    assert broken == []
    return [one.version.stamp for one in loads]


def test_the_newest_of_each_unless_it_is_there(means: Any) -> None:
    shop, mail = add(means, "shop", 3), add(means, "mail")
    add(means, "new", 0)
    newest = {store.uuid: store.need_newest().stamp for store in (shop, mail)}
    both = [newest[mail.uuid], newest[shop.uuid]]
    assert wanted(means, {}) == both
    assert wanted(means, {}, (shop.uuid, newest[shop.uuid])) == [newest[mail.uuid]]
    assert wanted(means, {"deep": True}, (shop.uuid, newest[shop.uuid])) == both
    assert wanted(means, {"primaries": [mail.uuid]}) == [newest[mail.uuid]]
    assert wanted(means, {}, primaries=(shop.uuid,)) == [newest[shop.uuid]]


def test_all_of_them_the_oldest_first_where_that_is_wished(means: Any) -> None:
    shop = add(means, "shop", 3)
    stamps = sorted(one.stamp for one in shop.versions())
    assert wanted(means, {"every": True}) == stamps
    assert wanted(means, {}, (shop.uuid, stamps[1]), every_version=True) == [stamps[0], stamps[2]]
    assert wanted(means, {"version": stamps[0], "primaries": [shop.uuid]}) == [stamps[0]]


def test_what_is_damaged_is_not_carried_and_that_is_told(means: Any) -> None:
    shop, mail = add(means, "shop"), add(means, "mail")
    shop.health.change(shop.need_newest().stamp, lambda one: one.with_blocks(disk=0, runs=[(0, 1)]))
    loads, broken = _wanted(means, PLACE, [], {}, False)
    assert [one.store.uuid for one in loads] == [mail.uuid]
    assert [one.code for one in broken] == ["version-damaged"]


def test_what_is_picked_of_a_place() -> None:
    old, new = "20261101T000000.000Z", "20261102T000000.000Z"
    held = [
        Snapshot("s", "2026-11-03"),
        Snapshot("b", "", "u1", new, "shop"),
        Snapshot("a", "", "u1", old, "shop"),
    ]
    assert pick(held, "SHOP").id == "b" and pick(held, "u1", old).id == "a"
    for primary, stamp in (("mail", ""), ("shop", "20261103T000000.000Z"), ("", "")):
        with pytest.raises(NotfallError) as refused:
            pick(held, primary, stamp)
        assert refused.value.code == "not-off-loaded"


def test_snapshots_of_others_are_left_alone() -> None:
    told = {"id": "x", "time": "2026-11-27T00:00:00Z", "hostname": "h"}
    assert _snapshot({**told, "tags": ["notfallserver"]}) is None
    assert _snapshot({**told, "tags": None}) is None
    known = _snapshot({**told, "tags": ["version", "stamp=s", "name=a=b"]})
    assert known is not None and (known.primary, known.stamp, known.name) == ("h", "s", "a=b")


def test_a_replication_waits_only_for_the_first_version_that_comes_back(means: Any) -> None:
    shop = add(means, "shop", 0)
    row = means.catalogue.primaries.find("shop")
    assert not awaits_restore(means, row)
    means.catalogue.jobs.add("offload_restore", shop.uuid, {}, "rebuild")
    assert awaits_restore(means, row)
    means.catalogue.primaries.new_version(shop.uuid, "20261101T000000.000Z")
    assert not awaits_restore(means, means.catalogue.primaries.find("shop"))
