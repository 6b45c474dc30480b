"""What an agent records for its successor, and where."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from notfallserver.agent import place
from notfallserver.agent.changes import keeping
from notfallserver.agent.changes.keeping import Keeping
from notfallserver.agent.changes.state import State, layout_mark, read_state, write_state
from notfallserver.agent.disks.base import Protected, Volume
from notfallserver.agent.place import Place

STATE = State("b", "p", "l", "t", "20261123T101500.000Z", [[(0, 4), (9, 1)], []], "r", [[], []])
DISK = Protected("sda", "/dev/sda", 2048, 1 << 30, 512, True, (Volume("sda", 2048, 0, 0, 1),), 7)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(place, "ROOT", tmp_path / "run")
    return Place(tmp_path / "etc")


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_state(tmp_path / "state") is None
    for state in (STATE, State("b", "p", "l")):
        write_state(tmp_path / "state", state)
        assert read_state(tmp_path / "state") == state


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        ('"format": 1', '"format": 2'),
        ('"since"', '"sonce"'),
        ("[[[0, 4]", "[[[0]"),
        ("[[[0, 4]", '[[["x", 4]'),
        ('"b"', "b"),
        ("{", "["),
    ],
)
def test_a_record_that_is_not_understood_is_none(tmp_path: Path, part: str, instead: str) -> None:
    write_state(tmp_path / "state", STATE)
    text = (tmp_path / "state").read_text()
    assert part in text
    (tmp_path / "state").write_text(text.replace(part, instead, 1))
    assert read_state(tmp_path / "state") is None


@pytest.mark.parametrize("what", ["boot", "primary", "layout", "tracker"])
def test_a_record_counts_only_for_what_it_was_made_for(what: str) -> None:
    assert STATE.differs(replace(STATE, since="", held=[])) == ""
    other = State(**{**vars(STATE), what: "other"})
    assert STATE.differs(other) == what


def test_a_disk_that_took_the_place_of_another_is_another_layout() -> None:
    assert layout_mark([DISK]) == layout_mark([replace(DISK)])
    for other in (
        replace(DISK, sequence=8),
        replace(DISK, size=2 << 30),
        replace(DISK, volumes=()),
    ):
        assert layout_mark([DISK]) != layout_mark([other])


def test_two_configurations_share_nothing(tmp_path: Path, here: Place) -> None:
    other = Place(tmp_path / "etc2")
    for name in ("directory", "note", "state", "lock", "pins"):
        assert getattr(here, name) != getattr(other, name)
    assert here.key == Place(tmp_path / "x" / ".." / "etc").key


def test_only_one_process_works_with_a_place(here: Place) -> None:
    first = Keeping(here)
    with pytest.raises(OSError, match="another agent"):
        Keeping(here)
    first.close()
    Keeping(here).close()


def test_a_record_that_cannot_be_written_is_removed(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an older one would stay, and marks that it needs would be forgotten."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    one = Keeping(here)
    one.write(STATE)
    assert read_state(here.state) == STATE
    monkeypatch.setattr(keeping, "write_state", full)
    one.write(replace(STATE, since="later"))
    assert not here.state.exists()
    one.close()
