"""Versions carried to a directory with the real engine, and brought back; needs root."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hand_agent import HandAgent
from offload_scene import Away, engines, kill_engine_when, protect
from server_process import ServerProcess, running

from notfall_lab.patience import PATIENCE_S, until, until_soon
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.pool.version import check_version
from notfallserver.wire.blocks import BLOCK

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

MIB = 1 << 20
SIZE = 96 * MIB + 512
"""Two stretches of 64 MiB, the second with a short last block."""


@dataclass
class Scene:
    server: ServerProcess
    agent: HandAgent
    away: Away
    directory: Path

    @property
    def store(self) -> PrimaryStore:
        return self.server.pool.primary(self.agent.uuid)

    def carried(self) -> int:
        """Bytes that lie at the place."""
        return sum(one.stat().st_size for one in self.directory.rglob("*") if one.is_file())

    def packs(self) -> int:
        """How many files of contents lie there as a whole; each has 16 MiB."""
        data = self.directory / "notfall-offload" / "data"
        return sum(len(one.name) == 64 for one in data.glob("*/*"))

    def renew(self) -> str:
        """Other content in the first half; a new version."""
        half = SIZE // 2 // BLOCK * BLOCK
        self.agent.disk = os.urandom(half) + self.agent.disk[half:]
        return protect(self.agent)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("offload")
    away = root / "away"
    away.mkdir()
    with running(ServerProcess(root)) as server:
        half = SIZE // 2 // BLOCK * BLOCK
        disk = os.urandom(half // 2) + bytes(half // 2) + os.urandom(SIZE - half)
        agent = HandAgent(server, "shop", disk)
        protect(agent)
        yield Scene(server, agent, Away.add(server, "nas", "--directory", str(away)), away)
        agent.close()


def test_what_is_used_is_carried_and_afterwards_only_what_changed(scene: Scene) -> None:
    newest = scene.store.need_newest()
    used = newest.bytes_used
    first = scene.away.done("run")
    assert [one["version"] for one in first["versions"]] == [newest.stamp]
    assert abs(scene.carried() - used) < 8 * MIB  # a quarter of the disk is a hole
    shown = scene.away.shown()
    assert (shown["standing"], shown["media"][0]["problem"]) == ("well", "")
    assert scene.away.done("run")["versions"] == []  # it lies there already
    scene.agent.disk = scene.agent.disk[:BLOCK] + os.urandom(BLOCK) + scene.agent.disk[2 * BLOCK :]
    stamp = protect(scene.agent)
    before = scene.carried()
    again = scene.away.done("run")
    assert [one["version"] for one in again["versions"]] == [stamp]
    assert scene.carried() - before < 8 * MIB  # some chunks, and the server itself
    held = [one["version"] for one in scene.away.contents(fresh=True) if one["primary"]]
    assert held == [stamp, newest.stamp]


def test_it_is_put_together_without_us(scene: Scene, tmp_path: Path) -> None:
    scene.away.done("run")
    newest = scene.store.need_newest()
    got, disk = tmp_path / "got", tmp_path / "disk0.raw"
    tag = f"stamp={newest.stamp}"
    scene.away.restic("restore", "latest", "--tag", tag, "--target", str(got))
    subprocess.run([sys.executable, got / "assemble.py", got, "0", disk], check=True)
    assert disk.read_bytes() == newest.raw(0).read_bytes()
    assert disk.stat().st_blocks * 512 < SIZE


def test_a_lost_version_comes_back_and_one_disk_as_a_file(scene: Scene, tmp_path: Path) -> None:
    scene.away.done("run")
    older = scene.store.need_newest()
    content = older.raw(0).read_bytes()
    scene.renew()
    scene.store.remove_version(older.stamp)
    result = scene.away.done("restore", primary="shop", version=older.stamp)
    assert result["version"] == older.stamp
    back = scene.store.version(older.stamp)
    assert check_version(back) == [] and back.raw(0).read_bytes() == content
    # The half that is as in the newest shares its blocks with it; it is held until let go.
    extents = subprocess.run(
        ["filefrag", "-v", back.raw(0)], capture_output=True, text=True, check=True
    )
    assert "shared" in extents.stdout
    assert "restored" in scene.store.pins.all()[older.stamp]
    target = tmp_path / "disk.raw"
    scene.away.done("fetch", primary="shop", version=older.stamp, number=0, to=str(target))
    assert target.read_bytes() == content
    with scene.server.root() as root:
        told = root.post(
            "/api/v1/offload/places/nas/fetch",
            json={"primary": "shop", "number": 0, "to": str(target)},
        ).json()
    assert told["code"] == "file-exists"
    assert scene.away.refused("fetch", primary="shop", number=7, to=f"{target}2") == "no-such-disk"
    assert list(scene.store.paths.work.iterdir()) == []
    scene.store.pins.unpin(older.stamp, "restored")


@pytest.mark.parametrize("victim", ["engine", "server"])
def test_killed_in_the_middle_it_goes_on_with_what_had_arrived(scene: Scene, victim: str) -> None:
    stamp = scene.renew()
    before = scene.packs()
    job = scene.away.ask("run")

    def half_way() -> bool:
        return scene.packs() > before

    if victim == "engine":
        kill_engine_when(scene.server, half_way)
        row = scene.server.await_job(job)
        assert row["error"]["code"] == "offload-broken-off"
        assert scene.away.shown()["standing"] == "failed"
        job = scene.away.ask("run")
    else:
        until_soon(half_way)
        scene.server.kill()
        until(lambda: not engines(scene.server))  # it does not outlive its server
        scene.server.start()
    row = scene.server.await_job(job)
    assert row["state"] == "done", row
    assert stamp in [one["version"] for one in scene.away.contents()]
    # What had arrived was not carried a second time.
    assert row["result"]["bytes_added"] < SIZE // 2 - 8 * MIB
    assert list(scene.store.paths.work.iterdir()) == []


def test_a_cancelled_one_ends_the_engine_and_holds_nothing_up(scene: Scene) -> None:
    scene.renew()
    job = scene.away.ask("run")
    until_soon(lambda: bool(engines(scene.server)))
    with scene.server.root() as root:
        assert root.post(f"/api/v1/jobs/{job}/cancel").status_code == 202
    assert scene.server.await_job(job)["state"] == "cancelled"
    until(lambda: not engines(scene.server))
    scene.away.done("run")
    # It needs the place for itself alone: an old lock would hold it, were it not let go.
    scene.away.done("check")


def test_no_secret_is_in_a_process_or_the_log(scene: Scene) -> None:
    scene.renew()
    job = scene.away.ask("run")
    lines = b""
    until_time = time.monotonic() + PATIENCE_S
    while not scene.server.job(job)["finished_at"] and time.monotonic() < until_time:
        for one in engines(scene.server):
            try:
                lines += Path(f"/proc/{one}/cmdline").read_bytes()
            except OSError:
                continue
    assert b"backup" in lines and scene.away.key.encode() not in lines
    assert scene.away.key not in scene.server.log()
    for name in ("password", "secrets.json", "repository"):
        assert (scene.away.folder / name).stat().st_mode & 0o777 == 0o600
    assert scene.away.folder.stat().st_mode & 0o777 == 0o700


def test_a_check_is_told_and_damage_is_found_and_let_into_nothing(scene: Scene) -> None:
    """Last: it damages what lies there."""
    scene.away.done("run")
    told = scene.away.done("check")
    assert told["versions"] > 0 and told["segments"] > 0
    assert scene.away.shown()["media"][0]["checked_at"]
    packs = [
        one for one in (scene.directory / "notfall-offload" / "data").rglob("*") if one.is_file()
    ]
    for pack in packs:
        with pack.open("r+b") as stream:
            stream.seek(pack.stat().st_size // 2)
            stream.write(os.urandom(64))
    assert scene.away.refused("check", whole=True) == "offload-damaged"
    assert scene.away.shown()["standing"] == "damaged"
    newest = scene.store.need_newest()
    scene.renew()
    scene.store.remove_version(newest.stamp)
    scene.away.refused("restore", primary="shop", version=newest.stamp)
    assert newest.stamp not in [one.stamp for one in scene.store.versions()]
    assert list(scene.store.paths.work.iterdir()) == []
    with scene.server.root() as root:
        events = [one["event"] for one in root.get("/api/v1/journal").json()]
    assert "offload-damaged" in events
