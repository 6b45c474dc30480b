"""Whose stand-in calls: this server's own, or another's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from notfallserver.server.cycle.elsewhere import note_caller, refuse_elsewhere, works_elsewhere
from notfallserver.server.records import Catalogue, open_catalogue
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    opened = open_catalogue(tmp_path)
    opened.primaries.adopt_primary(
        "u-1", "web", Machine("web", disks=[Disk("vda", 1 << 30)]), "", "normal", 60, 15
    )
    yield opened
    opened.close()


def call(catalogue: Catalogue, role: str, boot: str) -> bool:
    """A poll; whether a stand-in is then known to work elsewhere."""
    note_caller(catalogue, catalogue.primaries.find("u-1"), role, boot)
    catalogue.primaries.saw_agent("u-1", boot, role, "0")
    return works_elsewhere(catalogue.primaries.find("u-1"))


def told(catalogue: Catalogue) -> int:
    entries = catalogue.journal.entries("u-1")
    return [one.event for one in entries].count("stand-in-elsewhere")


def test_a_stand_in_that_we_did_not_start_is_another_servers(catalogue: Catalogue) -> None:
    assert not call(catalogue, "primary", "original")
    assert call(catalogue, "stand-in", "theirs")
    assert call(catalogue, "stand-in", "theirs")
    assert told(catalogue) == 1
    with pytest.raises(NotfallError):
        refuse_elsewhere(catalogue.primaries.find("u-1"))
    assert not call(catalogue, "primary", "recovered")
    refuse_elsewhere(catalogue.primaries.find("u-1"))
    assert call(catalogue, "stand-in", "theirs")
    assert told(catalogue) == 2


def test_our_own_stand_in_is_none_even_when_it_calls_a_moment_longer(catalogue: Catalogue) -> None:
    catalogue.primaries.move("u-1", "normal", "activating", "activate", "t")
    catalogue.primaries.move("u-1", "activating", "emergency", "standin_up", "t")
    assert not call(catalogue, "stand-in", "ours")
    catalogue.primaries.move("u-1", "emergency", "outage", "standin_dropped", "t")
    assert not call(catalogue, "stand-in", "ours")
    assert told(catalogue) == 0
    assert call(catalogue, "stand-in", "theirs")
