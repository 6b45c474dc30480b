"""What is known of versions' health: runs, durability, and which primary is checked next."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notfallserver.server.cycle.duties import most_overdue
from notfallserver.server.pool.health import SOUND, Health, HealthRecord, joined, outside
from notfallserver.server.pool.layout import PrimaryPaths
from notfallserver.wire.blocks import Run

RUNS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=8)


def blocks(runs: list[Run]) -> set[int]:
    return {number for first, count in runs for number in range(first, first + count)}


@given(RUNS, st.integers(0, 60), st.integers(1, 20))
def test_runs_are_joined_and_cut_as_sets_are(runs: list[Run], first: int, count: int) -> None:
    whole = joined(runs)
    assert blocks(whole) == blocks(runs)
    ends = [begin + length for begin, length in whole]
    assert all(end < begin for end, (begin, _) in zip(ends, whole[1:], strict=False))
    assert blocks(outside(whole, first, count)) == blocks(runs) - set(range(first, first + count))


def test_a_check_replaces_only_what_it_looked_at() -> None:
    known = SOUND.with_checked(0, 0, 256, [(3, 2)]).with_checked(1, 0, 256, [(7, 1)])
    assert known.count == 3 and known.renew
    later = replace(known, renew=False).with_checked(0, 0, 4, [])
    assert later.blocks == {0: ((4, 1),), 1: ((7, 1),)}
    assert not later.renew  # less is damaged than before: what was prepared is no worse
    sound = later.with_checked(0, 0, 256, []).with_checked(1, 7, 1, [])
    assert sound == SOUND and not sound.damaged
    assert SOUND.with_index(2, False).damaged and SOUND.with_index(2, False).count == 0
    assert SOUND.with_index(2, False).with_index(2, True) == SOUND


@pytest.fixture
def record(tmp_path: Path) -> HealthRecord:
    paths = PrimaryPaths.of(tmp_path, str(uuid4()))
    paths.make()
    for stamp in ("a", "b"):
        (paths.versions / stamp).mkdir()
        (paths.versions / stamp / "manifest.json").touch()
    return HealthRecord(paths)


def test_the_record_outlives_the_process_and_forgets_versions_that_are_gone(
    record: HealthRecord, tmp_path: Path
) -> None:
    found = Health("2026-01-01T00:00:00+00:00", {0: ((1, 2),)}, (1,), 3, True, True)
    record.change("a", lambda _: found)
    record.complete("2026-01-02T00:00:00+00:00")
    again = HealthRecord(PrimaryPaths(next(tmp_path.iterdir())))
    assert again.of("a") == found and again.of("b") == SOUND
    assert again.completed_at == "2026-01-02T00:00:00+00:00"
    next(tmp_path.glob("*/versions/a/manifest.json")).unlink()
    again.change("b", lambda one: one.with_index(0, False))
    assert set(again.all()) == {"b"}
    again.change("a", lambda one: one.with_index(0, False))  # found in a version just removed
    assert set(again.all()) == {"b"}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": 9}', b'{"format": 1, "versions": {"a": {"x": 1}}}']
)
def test_a_broken_record_counts_as_empty(
    record: HealthRecord, tmp_path: Path, content: bytes
) -> None:
    path = next(tmp_path.iterdir()) / "health.json"
    path.write_bytes(content)
    assert record.all() == {} and record.completed_at == ""
    record.change("a", lambda one: one.with_index(0, False))
    assert record.of("a").damaged


def test_the_primary_that_waits_longest_is_checked_next() -> None:
    now = datetime(2026, 5, 1, tzinfo=timezone.utc)
    checked = {"a": now - timedelta(days=8), "b": now - timedelta(days=9), "c": now}
    assert most_overdue(checked, now - timedelta(days=7)) == "b"
    assert most_overdue(checked, now - timedelta(days=10)) is None
    assert most_overdue({}, now) is None
