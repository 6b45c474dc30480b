"""A first copy by removable disk: written by the real agent, imported by the real server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import pytest
from agent_process import AgentProcess
from agent_receiver import command, loop_device
from relay import Relay
from server_process import ServerProcess, running
from source_machine import Machine

from notfall_lab.patience import PATIENCE_S
from notfallserver.agent.place import Place, take_lock
from notfallserver.agent.service import Service
from notfallserver.server.pool.version import Version, check_version
from notfallserver.wire.errors import NotfallError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

MIB = 1 << 20
SIZE = 96 * MIB
USED = 64 * MIB


@dataclass
class Scene:
    """A primary with one disk that is read as it is, and nothing in the pool."""

    server: ServerProcess
    agent: AgentProcess
    relay: Relay
    disk: str
    to: Path

    def seed(self, code: int = 0) -> dict[str, Any]:
        done = self.run_agent("seed", "--to", str(self.to))
        assert done.returncode == code, done.stderr
        told: dict[str, Any] = json.loads(done.stdout) if not code else {}
        return told

    def run_agent(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        program, etc = self.agent.directory / "agent.pyz", self.agent.directory / "etc"
        line = [sys.executable, "-I", str(program), *arguments, "--config", str(etc)]
        return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)

    def ask(self, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        with self.server.root() as root:
            return root.post(f"/api/v1{path}", json=body)

    def begin_import(self, directory: Path | None = None, **more: str) -> httpx.Response:
        return self.ask("/seeds/import", {"directory": str(directory or self.to), **more})

    def imported(self, directory: Path | None = None, **more: str) -> dict[str, Any]:
        answer = self.begin_import(directory, **more)
        assert answer.status_code == 202, answer.text
        return self.server.await_job(answer.json()["id"])

    def refused(self, directory: Path | None = None, **more: str) -> tuple[str, str]:
        answer = self.begin_import(directory, **more)
        assert answer.status_code >= 400, answer.text
        return answer.json()["code"], answer.json()["cause"]

    def replicated(self) -> dict[str, Any]:
        answer = self.ask(f"/primaries/{self.agent.name}/replicate")
        assert answer.status_code == 202, answer.text
        row = self.server.await_job(answer.json()["id"])
        assert row["state"] == "done", (row, self.agent.log())
        result: dict[str, Any] = row["result"]
        return result

    def newest(self) -> Version:
        newest = self.server.pool.primary(self.agent.uuid).newest()
        assert newest is not None
        return newest

    def write(self, at: int, length: int) -> None:
        with Path(self.disk).open("r+b") as stream:
            stream.seek(at)
            stream.write(os.urandom(length))
            os.fsync(stream.fileno())


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(ServerProcess(tmp_path_factory.mktemp("seeded"))) as server:
        yield server


@pytest.fixture
def scene(seeded: ServerProcess, tmp_path: Path) -> Iterator[Scene]:
    server = seeded
    with ExitStack() as stack:
        relay = stack.enter_context(Relay(server.port))
        image = tmp_path / "disk.img"
        with image.open("wb") as stream:
            stream.truncate(SIZE)
        disk = stack.enter_context(loop_device(image))
        agent = AgentProcess(server, f"db-{token_hex(3)}", [disk], relay.url)
        (agent.directory / "log").touch()
        stack.callback(agent.stop)
        to = tmp_path / "removable"
        to.mkdir()
        scene = Scene(server, agent, relay, disk, to)
        scene.write(0, USED)
        yield scene


def test_after_a_seed_the_line_carries_only_what_was_written_since(scene: Scene) -> None:
    sent = scene.relay.sent
    told = scene.seed()
    assert scene.relay.sent - sent < MIB
    files = sorted(Path(told["seed"]).iterdir())
    assert {one.stat().st_mode & 0o777 for one in files} == {0o600}
    scene.write(SIZE - MIB, MIB)  # after the seed, before the import
    answer = scene.ask(f"/primaries/{scene.agent.name}/replicate")
    assert answer.json()["code"] == "seed-awaited"
    row = scene.imported()
    assert row["state"] == "done", row
    assert row["result"]["version"] == told["version"] == scene.newest().stamp
    assert check_version(scene.newest()) == []
    assert scene.refused()[0] == "seed-not-awaited"  # the secret is good once
    scene.agent.start()
    sent = scene.relay.sent
    result = scene.replicated()
    assert not result["read_all"]
    assert MIB < scene.relay.sent - sent < 2 * MIB
    command("cmp", scene.newest().raw(0), scene.disk)
    assert scene.newest().manifest.base == told["version"]


def test_what_is_wrong_with_a_seed_is_told_and_changes_nothing(
    scene: Scene, tmp_path: Path
) -> None:
    assert scene.refused()[0] == "no-seed"
    told = scene.seed()
    seed = Path(told["seed"])
    assert {one.name for one in seed.iterdir()} == {"part-0001.nfs", "seed.json"}

    cut = tmp_path / "cut"
    shutil.copytree(seed, cut)
    (cut / "seed.json").unlink()
    assert scene.refused(cut)[0] == "seed-unfinished"

    changed = json.loads((seed / "seed.json").read_text())
    forged = tmp_path / "forged"
    shutil.copytree(seed, forged)
    (forged / "seed.json").write_text(json.dumps({**changed, "stamp": "20990101T000000.000Z"}))
    assert scene.refused(forged)[0] == "seed-forged"

    stranger = tmp_path / "stranger"
    shutil.copytree(seed, stranger)
    body = {**changed, "primary": "00000000-0000-4000-8000-000000000000"}
    (stranger / "seed.json").write_text(json.dumps(body))
    assert scene.refused(stranger)[0] == "seed-of-unknown-primary"
    scene.server.enrol("other-one")
    assert scene.refused(seed, primary="other-one")[0] == "seed-of-another-primary"

    with (seed / "part-0001.nfs").open("r+b") as stream:
        stream.seek(20 * MIB)
        sound = stream.read(1)
        stream.seek(20 * MIB)
        stream.write(bytes([sound[0] ^ 1]))
    row = scene.imported()
    assert row["state"] == "failed"
    assert row["error"]["code"] == "seed-damaged"
    assert "part-0001.nfs is wrong between byte" in row["error"]["cause"]
    assert scene.server.pool.primary(scene.agent.uuid).newest() is None

    with (seed / "part-0001.nfs").open("r+b") as stream:  # another copy of it was sound
        stream.seek(20 * MIB)
        stream.write(sound)
    assert scene.imported()["state"] == "done"


def test_a_server_killed_in_the_import_goes_on_with_it(scene: Scene) -> None:
    scene.seed()
    answer = scene.begin_import()
    job = answer.json()["id"]
    arriving = scene.server.pool.primary(scene.agent.uuid).paths.incoming / "disk0.raw"
    until = time.monotonic() + PATIENCE_S
    while not arriving.exists() or arriving.stat().st_blocks * 512 < 40 * MIB:
        assert time.monotonic() < until
        time.sleep(0.001)
    scene.server.kill()
    assert scene.server.pool.primary(scene.agent.uuid).newest() is None
    scene.server.start()
    row = scene.server.await_job(job)
    assert row["state"] == "done", row
    assert check_version(scene.newest()) == []
    command("cmp", scene.newest().raw(0), scene.disk)


def test_an_interrupted_seed_is_begun_anew_and_an_exported_one_needs_its_code(
    scene: Scene, tmp_path: Path
) -> None:
    left = scene.to / f"notfall-seed-{scene.agent.uuid[:8]}-0badbeef"
    left.mkdir()
    (left / "part-0001.nfs").write_bytes(b"cut")
    told = scene.seed()
    assert not left.exists()
    assert scene.imported()["state"] == "done"

    out = tmp_path / "out"
    out.mkdir()
    begun = scene.ask(f"/primaries/{scene.agent.name}/seed/export", {"directory": str(out)}).json()
    row = scene.server.await_job(begun["job"]["id"])
    assert row["state"] == "done", row
    assert row["result"]["version"] == told["version"]
    second = tmp_path / "second"
    second.mkdir()
    with running(ServerProcess(second)) as other:
        there = Scene(other, scene.agent, scene.relay, scene.disk, out)
        enrolled = other.enrol("db")
        assert there.refused()[0] == "seed-of-unknown-primary"
        assert there.refused(primary="db", code="wrong")[0] == "seed-forged"
        assert there.imported(primary="db", code=begun["code"])["state"] == "done"
        version = other.pool.primary(enrolled["primary"]).version(told["version"])
        assert check_version(version) == []
        command("cmp", version.raw(0), scene.disk)


def test_beside_the_service_no_seed_is_made(scene: Scene) -> None:
    missing = scene.run_agent("seed", "--to", str(scene.to / "nowhere"))
    assert missing.returncode == 1
    assert "No such file" in missing.stderr
    scene.agent.start()
    lock = Place(scene.agent.directory / "etc").lock
    until = time.monotonic() + PATIENCE_S
    with suppress(OSError):
        while time.monotonic() < until:
            os.close(take_lock(lock))
            time.sleep(0.1)
    refused = scene.run_agent("seed", "--to", str(scene.to))
    assert refused.returncode == 1
    assert "service is running" in refused.stderr


def test_a_disk_does_not_hold_its_own_seed(machine: Machine, agent: Service) -> None:
    with pytest.raises(NotfallError) as caught:
        agent.first.seed(machine.main)
    assert caught.value.code == "seed-on-own-disk"
