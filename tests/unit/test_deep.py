"""When a deep run is due, and what is remembered of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from notfallserver.server.cycle.normal.deep import DAYS, Deep, deep_due, judge_deep, read_deep
from notfallserver.server.pool.version import Manifest
from notfallserver.wire.facts import Machine

NOW = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)
SHALLOW = Manifest(
    "p",
    "shop",
    "v2",
    "replication",
    "filesystem",
    "v1",
    Machine("shop"),
    (),
    "",
    NOW.isoformat(),
    read_all=False,
)
CLEAN = Deep((NOW - timedelta(days=3)).isoformat())
ALARM = replace(CLEAN, found_in="v1", unexplained=4)


@pytest.mark.parametrize(
    ("days", "ago", "due"),
    [(None, DAYS - 1, False), (None, DAYS, True), (3, 2, False), (3, 4, True), (0, 400, False)],
)
def test_it_is_due_after_so_many_days(days: int | None, ago: int, due: bool) -> None:
    notes = {"deep": Deep((NOW - timedelta(days=ago)).isoformat()).to_json()}
    assert deep_due(notes if days is None else {**notes, "deep_days": days}, NOW) == due


def test_before_the_first_version_none_is_due() -> None:
    assert not deep_due({}, NOW)
    assert read_deep({}) is None


@pytest.mark.parametrize(
    ("last", "manifest", "expected"),
    [
        (None, SHALLOW, Deep(NOW.isoformat())),
        (CLEAN, SHALLOW, None),
        (CLEAN, replace(SHALLOW, read_all=True), Deep(NOW.isoformat())),
        (CLEAN, replace(SHALLOW, deep=True, unexplained=7), Deep(NOW.isoformat(), "v2", 7)),
        (ALARM, replace(SHALLOW, read_all=True), Deep(NOW.isoformat(), "v1", 4)),
        (ALARM, replace(SHALLOW, deep=True), Deep(NOW.isoformat())),
    ],
)
def test_an_alarm_stays_until_a_deep_run_finds_nothing(
    last: Deep | None, manifest: Manifest, expected: Deep | None
) -> None:
    assert judge_deep(last, manifest) == expected
    assert "KiB" in ALARM.in_words()
