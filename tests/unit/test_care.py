"""Which version is prepared and started when some are damaged, and what is told of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from test_damage import USED, bad_blocks, damage
from test_pool import content, replicate, store

from notfallserver.server.cycle.care import Care
from notfallserver.server.cycle.emergency.captures import Captures
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.runner import JobContext, JobRunner, ServerStops
from notfallserver.server.cycle.scrub import Scrub
from notfallserver.server.cycle.work import Work
from notfallserver.server.pool.store import Pool, PrimaryStore
from notfallserver.server.records import Catalogue, open_catalogue
from notfallserver.wire.blocks import BLOCK, Run
from notfallserver.wire.errors import NotfallError

__all__ = ["store"]


@pytest.fixture
def catalogue(tmp_path: Path, store: PrimaryStore) -> Iterator[Catalogue]:
    (tmp_path / "data").mkdir()
    catalogue = open_catalogue(tmp_path / "data")
    catalogue.primaries.adopt_primary(store.uuid, "shop", None, "", "normal", 0, 0)
    yield catalogue
    catalogue.close()


@pytest.fixture
def care(tmp_path: Path, catalogue: Catalogue) -> Care:
    return Care(cast(Means, SimpleNamespace(catalogue=catalogue, pool=Pool(tmp_path))))


def spoil(store: PrimaryStore, stamp: str, *runs: Run) -> None:
    store.health.change(stamp, lambda one: one.with_blocks(0, runs))


def events(catalogue: Catalogue) -> list[str]:
    return [one.event for one in catalogue.journal.entries() if one.event != "adopted"]


def test_the_newest_sound_version_is_prepared_and_its_use_is_told(
    store: PrimaryStore, care: Care, catalogue: Catalogue
) -> None:
    old, new = replicate(store, USED), replicate(store, {1: content(1, 1)})
    with store.preparing(old) as clones:
        store.seal_prepared(clones, {"system": "old"})
    spoil(store, new.stamp, (1, 1))
    runner = JobRunner(catalogue.jobs, catalogue.journal)
    unused: Any = None
    work = Work(care.means, runner, cast(Captures, unused), care, unused, unused, unused)
    ctx = cast(JobContext, SimpleNamespace(primary=store.uuid, progress=lambda _: None))
    assert work.prepare(ctx) == {"version": old.stamp, "system": "old"}
    assert care.tell_use(store, old.stamp) == 0
    assert events(catalogue) == ["older-version-used"]
    spoil(store, old.stamp, (2, 1), (17, 1))
    assert care.tell_use(store, new.stamp) == 1
    assert events(catalogue)[0] == "damaged-version-used"


def test_no_target_gets_a_version_that_is_known_to_be_damaged(
    store: PrimaryStore, care: Care
) -> None:
    version = replicate(store, USED)
    care.require_sound(store, version.stamp)
    spoil(store, version.stamp, (1, 2))
    with pytest.raises(NotfallError, match="2 blocks") as refused:
        care.require_sound(store, version.stamp)
    assert refused.value.code == "version-damaged"


def test_a_new_version_repairs_what_it_holds_and_the_rest_is_lost(
    store: PrimaryStore, care: Care, catalogue: Catalogue
) -> None:
    old = replicate(store, USED)
    for number in (1, 2):
        damage(old.raw(0), number * BLOCK)
    spoil(store, old.stamp, (1, 2))
    care.tell_damage(store, old, "test")
    care.tell_damage(store, old, "test")
    care.show(store)
    assert catalogue.primaries.find("shop").notes["damaged"] == 1
    assert events(catalogue) == ["version-damaged"]
    new = replicate(store, {1: content(1), 2: content(2, 1)})
    care.settle(store.uuid, new.stamp)
    care.settle(store.uuid, new.stamp)
    assert events(catalogue) == ["version-lost", "version-repaired", "version-damaged"]
    assert store.health.of(old.stamp).blocks == {0: ((2, 1),)}
    assert store.health.of(old.stamp).lost and not store.health.of(new.stamp).damaged
    assert bad_blocks(old) == [(2, 1)] and bad_blocks(new) == []
    # It turns up after all, for instance in an older version that was brought back.
    replicate(store, {2: content(2)})
    assert care.repair(store, old, "test") == 1
    care.show(store)
    assert not store.health.of(old.stamp).damaged and not store.health.of(old.stamp).lost
    assert "damaged" not in catalogue.primaries.find("shop").notes


class Watched:
    """Stands for a job's context: it remembers the notes, and ends the job after some stretches."""

    def __init__(self, primary: str, stretches: int, notes: dict[str, Any] | None = None) -> None:
        self.primary = primary
        self.parameters: dict[str, Any] = {}
        self.notes = notes or {}
        self.job = SimpleNamespace(who="test", created_at=datetime.now(timezone.utc))
        self.left = stretches

    def note(self, **values: Any) -> None:
        self.notes = {**self.notes, **values}

    def progress(self, phase: str, done: int, total: int) -> None:
        assert phase == "checking" and 0 <= done <= total

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise ServerStops


def test_an_interrupted_check_goes_on_where_it_was(
    store: PrimaryStore, care: Care, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notfallserver.server.cycle.scrub.NOTE_EVERY_S", 0)
    monkeypatch.setattr("notfallserver.server.pool.scrub.STRETCH", 8)
    present = SimpleNamespace(scrub_mib_s=0)
    monkeypatch.setattr(care.means, "present", lambda: present, raising=False)
    old = replicate(store, {**USED, 9: content(9)})
    new = replicate(store, {**USED, 9: content(9, 1)})
    for number in (1, 9):
        damage(new.raw(0), number * BLOCK)
    scrub = Scrub(care.means, JobRunner(catalogue.jobs, catalogue.journal), care)
    first = Watched(store.uuid, 1)
    with pytest.raises(ServerStops):
        scrub.scrub(cast(JobContext, first))
    assert first.notes["at"] == {"version": new.stamp, "place": (0, 16)}
    assert store.health.of(new.stamp).blocks == {0: ((1, 1), (9, 1))}
    assert events(catalogue) == []

    damage(new.raw(0), 17 * BLOCK)
    again = Watched(store.uuid, 99, json.loads(json.dumps(first.notes)))
    result = scrub.scrub(cast(JobContext, again))
    told = ("versions", "damaged_blocks", "repaired_blocks", "left_blocks", "damaged_versions")
    assert [result[key] for key in told] == [2, 3, 2, 1, 1]
    assert bad_blocks(new) == [(9, 1)] and bad_blocks(old) == []
    assert result["bytes_checked"] == 10 * BLOCK  # every block once
    assert store.health.completed_at and store.health.of(old.stamp).checked_at
