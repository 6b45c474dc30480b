"""The same files are looked at in each run, whatever else comes and goes."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from notfall_lab.patience import PATIENCE_S
from notfallserver.agent import watched
from notfallserver.agent.disks.mounts import Mount
from notfallserver.agent.watching import FILES, is_dense, kind_of, stem_of


@pytest.fixture(autouse=True)
def below_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "ADAPTED", ())


def look(place: Path, most: int = FILES) -> dict[str, dict[str, Any]]:
    mount = Mount(place.stat().st_dev, str(place), "ext4", True)
    ways = watched._Ways(mount, time.monotonic() + PATIENCE_S)
    return {one["path"]: one for one in ways.files(most)}


def fill(place: Path, count: int, prefix: str = "f") -> list[Path]:
    made = []
    for number in range(count):
        folder = place / f"d{number % 9}" / f"e{number % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        made.append(folder / f"{prefix}{number}.txt")
        made[-1].write_bytes(b"words " * 200)
    return made


def test_the_same_ones_each_time(tmp_path: Path) -> None:
    fill(tmp_path, 600)
    first = look(tmp_path)
    assert len(first) == FILES and first == look(tmp_path)
    fill(tmp_path, 60, "new")
    assert len(set(first) & set(look(tmp_path))) > 0.8 * FILES


def test_another_ending_keeps_the_key(tmp_path: Path) -> None:
    files = fill(tmp_path, 300)
    before = {one["key"] for one in look(tmp_path).values()}
    for one in files:
        one.rename(f"{one}.locked")
    after = look(tmp_path)
    assert {one["key"] for one in after.values()} == before
    assert all(path.endswith(".txt.locked") for path in after)


def test_only_plain_files_of_this_filesystem_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "a.txt").write_bytes(b"hello")
    (tmp_path / "home" / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "proc").symlink_to("/proc")
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr" / "tool").write_bytes(b"x")
    deep = tmp_path / ("n" * 250) / ("m" * 250) / ("o" * 50)
    deep.mkdir(parents=True)
    (deep / "long").write_bytes(b"x")
    (tmp_path / "home" / os.fsdecode(b"\xff.txt")).write_bytes(b"x")
    monkeypatch.setattr(watched, "PROGRAMS", (str(tmp_path / "usr"),))
    assert set(look(tmp_path)) == {"/home/a.txt"}


def test_what_a_file_is_told_to_be(tmp_path: Path) -> None:
    dice = random.Random(1)
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(5000) + dice.randbytes(30000))
    (tmp_path / "lost").write_bytes(dice.randbytes(20000))
    (tmp_path / "note.txt").write_bytes(b"words " * 5000)
    told = {path: (one["kind"], one["dense"]) for path, one in look(tmp_path).items()}
    assert told == {"/photo.jpg": ("jpeg", 2), "/lost": ("", 3), "/note.txt": ("", 0)}
    assert kind_of(b"PK\x03\x04rest") == "zip" and kind_of(b"") == kind_of(b"Salted__") == ""
    assert not is_dense(dice.randbytes(100)) and is_dense(dice.randbytes(4096))
    assert stem_of("a.tar.gz") == "a" and stem_of(".profile") == ".profile"


def test_time_is_bounded(tmp_path: Path) -> None:
    fill(tmp_path, 50)
    mount = Mount(tmp_path.stat().st_dev, str(tmp_path), "ext4", True)
    assert watched._Ways(mount, time.monotonic() - 1).files(FILES) == []
