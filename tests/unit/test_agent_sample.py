"""A sample of files: at rest, small, at random, and only what is still so afterwards."""

from __future__ import annotations

import os
import time
from hashlib import sha256
from pathlib import Path

import pytest

from notfallserver.agent import sample, sampling
from notfallserver.agent.disks.mounts import Mount
from notfallserver.server.pool.version import SAMPLE, read_sample
from notfallserver.wire.errors import NotfallError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A filesystem of which a subvolume is mounted."""
    place = tmp_path / "place"
    place.mkdir()
    mount = Mount(7, str(place), "btrfs", True, "/@data")
    monkeypatch.setattr(sample, "current_mounts", lambda: [mount])
    monkeypatch.setattr(sample, "disks_below", lambda device, protected: {1})
    monkeypatch.setattr(sample, "_uuid", lambda device: "ABCD")
    monkeypatch.setattr(sample, "AT_REST_S", -1)
    monkeypatch.setattr(sample, "WITHIN_S", 1.0)
    monkeypatch.setattr(sample, "ADAPTED", (f"{place}/etc",))
    return place


def test_small_files_at_rest_are_taken_each_once(place: Path) -> None:
    for name in ("a/one", "a/b/two", "etc/fstab"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(name)
    (place / "large").write_bytes(bytes(sampling.LARGEST + 1))
    (place / "empty").touch()
    (place / "link").symlink_to(place / "etc/fstab")
    os.mkfifo(place / "pipe")
    (place / os.fsdecode(b"odd\xff")).write_text("no UTF-8")
    taken = sample.take_sample([1])
    told = sorted(sample.still_true(taken), key=lambda one: str(one["path"]))
    assert told == [
        {
            "filesystem": "ABCD",
            "path": f"/@data/{name}",
            "size": len(name),
            "sha256": sha256(name.encode()).hexdigest(),
        }
        for name in ("a/b/two", "a/one")
    ]
    assert [one.path for one in read_sample(told)] == ["/@data/a/b/two", "/@data/a/one"]


def test_what_was_touched_meanwhile_is_left_out(place: Path) -> None:
    for name in ("same", "written", "renewed", "gone", "touched"):
        (place / name).write_text(name)
    taken = sample.take_sample([1])
    assert len(taken) == 5
    time.sleep(0.02)
    (place / "written").write_text("WRITTEN")
    (place / "other").write_text("renewed")
    (place / "other").rename(place / "renewed")
    (place / "gone").unlink()
    os.utime(place / "touched", (1, 1))
    assert [one["path"] for one in sample.still_true(taken)] == ["/@data/same"]


def test_new_files_and_strangers_are_left_alone(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "new").write_text("new")
    monkeypatch.setattr(sample, "AT_REST_S", 86400)
    assert sample.take_sample([1]) == []
    monkeypatch.setattr(sample, "AT_REST_S", -1)
    monkeypatch.setattr(sample, "disks_below", lambda device, protected: set())
    assert sample.take_sample([1]) == []


def test_it_is_bounded(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(60):
        (place / f"file{number}").write_text(str(number))
    assert len(sample.take_sample([1])) == sampling.FILES <= SAMPLE
    monkeypatch.setattr(sample, "WITHIN_S", 0.0)
    assert sample.take_sample([1]) == []


GOOD = {"filesystem": "ABCD", "path": "/a", "size": 3, "sha256": "0" * 64}


@pytest.mark.parametrize(
    "bad",
    [
        {**GOOD, "path": "a"},
        {**GOOD, "path": "/a\0b"},
        {**GOOD, "path": "/" + "x" * 4096},
        {**GOOD, "path": "/\ud800"},
        {**GOOD, "size": -1},
        {**GOOD, "size": "many"},
        {**GOOD, "sha256": "0" * 63},
        {**GOOD, "sha256": 5},
        {**GOOD, "filesystem": "x" * 65},
        *({}, None, "text"),
    ],
)
def test_what_an_agent_tells_is_checked(bad: object) -> None:
    assert len(read_sample([GOOD])) == 1
    with pytest.raises(NotfallError):
        read_sample([GOOD, bad])
    with pytest.raises(NotfallError):
        read_sample([GOOD] * (SAMPLE + 1))
