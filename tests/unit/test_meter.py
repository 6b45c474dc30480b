"""Figures: what is not known is missing, and a scrape reads nothing that it knows already."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from notfallserver.server.cycle.means import Means
from notfallserver.server.health.judge import Finding, Grade
from notfallserver.server.health.watch import HealthWatch
from notfallserver.server.metrics import meter as meter_module
from notfallserver.server.metrics.meter import Meter, PoolFacts
from notfallserver.server.pool.proof import Evidence
from notfallserver.server.pool.store import Pool, PrimaryStore
from notfallserver.server.records import Catalogue, open_catalogue

UUID = "00000000-0000-0000-0000-000000000001"


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    opened = open_catalogue(tmp_path)
    opened.primaries.adopt_primary(UUID, "shop", None, "", "new", 60, 15)
    yield opened
    opened.close()


@pytest.fixture
def meter(catalogue: Catalogue, tmp_path: Path) -> Meter:
    (tmp_path / "pool").mkdir()
    pool = Pool(tmp_path / "pool")
    pool.add_primary(UUID, "shop")
    health = SimpleNamespace(findings=(Finding("space", Grade.WARNING, "space-low"),))
    means = SimpleNamespace(catalogue=catalogue, pool=pool)
    return Meter(cast("Means", means), cast("HealthWatch", health))


def shown(meter: Meter) -> dict[str, Any]:
    text = meter.text("")[0].decode()
    return {
        one.name + "".join(f",{value}" for value in one.labels.values()): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def test_what_is_not_known_is_missing(meter: Meter) -> None:
    found = shown(meter)
    assert found["notfallserver_primary_versions,shop"] == 0
    assert found["notfallserver_primary_schedule_seconds,shop"] == 3600
    assert found["notfallserver_primary_state,shop,new"] == 1
    assert found["notfallserver_primary_state,shop,normal"] == 0
    assert found["notfallserver_health,space"] == 1
    assert found["notfallserver_primary_alarms,shop,urgent"] == 0
    for name in ("version_age", "proven_version_age", "rehearsal_age", "last_run_freeze"):
        assert f"notfallserver_primary_{name}_seconds,shop" not in found
    assert "notfallserver_pool_full_in_seconds" not in found


def test_names_can_not_break_the_format(meter: Meter, catalogue: Catalogue) -> None:
    """Should a name ever hold such letters."""
    rows = catalogue.primaries.all()
    odd = SimpleNamespace(**{**vars(rows[0]), "name": 'a"b\\c\nd'})
    catalogue.primaries = cast("Any", SimpleNamespace(all=lambda: [odd]))
    assert shown(meter)['notfallserver_primary_versions,a"b\\c\nd'] == 0


def test_the_pool_is_read_again_only_when_it_changed(
    meter: Meter, catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = meter_module.facts_of

    def counted(store: PrimaryStore) -> PoolFacts:
        read.append(store.uuid)
        return real(store)

    monkeypatch.setattr(meter_module, "HOLDS_S", -1.0)
    monkeypatch.setattr(meter_module, "facts_of", counted)
    for _ in range(5):
        shown(meter)
    assert read == [UUID]
    store = Pool(tmp_path / "pool").primary(UUID)
    (store.paths.versions / "x").mkdir()
    shown(meter)
    assert read == [UUID] * 2
    store.proofs.keep("20261001T000000.000Z", Evidence())
    shown(meter)
    assert read == [UUID] * 3


def test_a_job_that_was_made_good_is_no_failure_also_of_the_server_itself(
    meter: Meter, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter_module, "HOLDS_S", -1.0)
    for outcome, failed in (("failed", 1), ("failed", 2), ("done", 0)):
        job, _ = catalogue.jobs.add("report", None, {}, "schedule")
        assert shown(meter)["notfallserver_jobs,queued"] == 1
        catalogue.jobs.finish(job.id, outcome)
        assert shown(meter)["notfallserver_jobs,failed"] == failed


def test_an_answer_holds_for_some_seconds(meter: Meter) -> None:
    assert meter.figures() is meter.figures()


def test_a_clock_that_was_set_back_makes_no_negative_age() -> None:
    now = datetime.now(timezone.utc)
    assert meter_module._age(now + timedelta(hours=1), now) == 0
