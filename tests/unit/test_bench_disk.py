"""What the benchmark puts on its disk, and the application that writes there."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bench.filling import IN_A_DIRECTORY, SMALL, Filling, fill
from bench.writer import Writer
from notfall_lab.patience import PATIENCE_S

FILES = IN_A_DIRECTORY + 200
FILLING = Filling(noise=2 << 20, files=FILES)


def _await(path: Path, pattern: str) -> Path:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if found := next(path.glob(pattern), None):
            return found
        time.sleep(0.01)
    raise AssertionError(f"nothing like {pattern} came")


def test_small_files_fill_up_to_the_wished_number_and_are_the_same_each_time(
    tmp_path: Path,
) -> None:
    trees = [tmp_path / "one", tmp_path / "two"]
    found = []
    for tree in trees:
        tree.mkdir()
        fill(tree, FILLING)
        files = [one for one in tree.rglob("*") if one.is_file()]
        found.append({one.relative_to(tree): one.read_bytes() for one in files})
    assert len(found[0]) == FILES
    assert found[0] == found[1]
    small = [content for path, content in found[0].items() if path.parts[0] == "small"]
    assert len(small) == FILES - 2
    assert all(0 < len(one) <= SMALL for one in small)


def test_the_writer_notes_its_longest_wait_since_it_was_asked(tmp_path: Path) -> None:
    spread = tmp_path / "spread"
    spread.mkdir()
    with Writer(tmp_path / "logs", [spread]) as writer:
        _await(spread, "new-*")
        assert writer.longest_ms() > 0
    assert _await(tmp_path / "logs", "0.log").stat().st_size > 0
    writer.longest_ms()
    assert writer.longest_ms() == 0
    assert not list(spread.glob(".new-*")), "a file was left without its name"


def test_a_writer_that_cannot_write_is_an_error(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(RuntimeError, match="could not go on"), Writer(tmp_path / "logs", [gone]):
        pass
