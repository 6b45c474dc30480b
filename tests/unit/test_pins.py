"""Which versions no rule removes."""

from __future__ import annotations

from pathlib import Path

import pytest

from notfallserver.server.pool.layout import MANIFEST, PrimaryPaths
from notfallserver.server.pool.pins import Pin, PinRecord
from notfallserver.wire.errors import NotfallError

ONE, TWO = "20261101T000000.000Z", "20261102T000000.000Z"
PIN = Pin("before the upgrade", "eva", "2026-11-01T10:00:00+00:00")


@pytest.fixture
def paths(tmp_path: Path) -> PrimaryPaths:
    paths = PrimaryPaths(tmp_path)
    for stamp in (ONE, TWO):
        (paths.versions / stamp).mkdir(parents=True)
        (paths.versions / stamp / MANIFEST).write_text("{}")
    return paths


def test_a_version_is_held_until_nobody_holds_it(paths: PrimaryPaths) -> None:
    record = PinRecord(paths)
    record.pin(ONE, "eva", PIN)
    record.pin(ONE, "alarm", Pin("the last clean one", "server", PIN.at))
    again = PinRecord(paths)
    assert again.all()[ONE]["eva"] == PIN and set(again.all()[ONE]) == {"eva", "alarm"}
    assert again.unpin(ONE, "eva") and not again.unpin(ONE, "eva")
    assert set(record.all()[ONE]) == {"alarm"}
    assert record.unpin(ONE, "alarm")
    assert record.all() == {}


def test_what_is_gone_is_forgotten(paths: PrimaryPaths) -> None:
    record = PinRecord(paths)
    record.pin(ONE, "eva", PIN)
    (paths.versions / ONE / MANIFEST).unlink()
    record.pin(TWO, "eva", PIN)
    assert set(record.all()) == {TWO}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}', '{"format": 1, "versions": 3}'])
def test_a_record_that_cannot_be_read_is_not_taken_for_empty(
    paths: PrimaryPaths, text: str
) -> None:
    paths.pins.write_text(text)
    with pytest.raises(NotfallError):
        PinRecord(paths).all()
    with pytest.raises(NotfallError):
        PinRecord(paths).pin(ONE, "eva", PIN)
    assert paths.pins.read_text() == text
