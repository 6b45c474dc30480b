"""The emergency server is lost, and made again from an off-load or from its pool; needs root."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from agent_process import AgentProcess
from agent_receiver import command, loop_device
from hand_agent import HandAgent
from offload_scene import Away, lose
from rehearsal_scene import Scene, rehearsable
from server_process import ServerProcess, free_port, running

from notfall_lab.patience import BOOT_S, until
from notfallserver.agent.addresses import recall
from notfallserver.server.host.mount import make_xfs, mount_image, unmount_image
from notfallserver.server.pool.version import check_version

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.timeout(900),
]

MIB = 1 << 20


def rebuild(server: ServerProcess, *options: str) -> dict[str, object]:
    """By the command line, into the directory of ``server``, with its port."""
    line = [
        *("server", "rebuild", "--yes", "--json", "--data-dir", str(server.data)),
        *("--listen-port", str(server.port), *options),
    ]
    done = server.notfall(*line, timeout=120)
    assert done.returncode == 0, done.stderr
    made: dict[str, object] = json.loads(done.stdout)
    return made


def key_file(away: Away, folder: Path) -> str:
    path = folder / "key"
    path.write_text(away.key.lower().replace("-", " "))  # as somebody types it
    return str(path)


def test_agents_go_on_with_the_server_that_was_made_again(tmp_path: Path) -> None:
    """A real agent and one by hand: from an off-load; then once more, from the pool alone."""
    with ExitStack() as stack:
        away_dir = tmp_path / "away"
        away_dir.mkdir()
        image = tmp_path / "disk.img"
        image.write_bytes(os.urandom(24 * MIB))
        disk = stack.enter_context(loop_device(image))
        server = stack.enter_context(running(ServerProcess(tmp_path)))
        spare = free_port()
        elsewhere = f"https://127.0.0.1:{spare}"
        told = server.notfall("server", "settings", "--further-url", elsewhere)
        assert told.returncode == 0 and elsewhere in told.stdout, told.stderr
        agent = AgentProcess(server, "db", [disk])
        stack.callback(agent.stop)
        agent.start()
        hand = HandAgent(server, "files")
        stack.callback(hand.close)
        held = hand.protect()
        replicate(server, "db")
        away = Away.add(server, "nas", "--directory", str(away_dir), "--at", "03:00")
        away.done("run")
        fingerprint = server.ca
        server.put_in_emergency(hand.uuid)
        away.done("run", deep=True)

        refused = server.notfall(
            *("server", "rebuild", "--yes", "--from", str(away_dir)),
            *("--key-file", key_file(away, tmp_path), "--data-dir", str(tmp_path / "other")),
            *("--config", str(tmp_path / "other.toml")),
        )
        assert refused.returncode == 1 and "still answers" in refused.stderr
        assert not (tmp_path / "other.toml").exists()
        refused = server.notfall("server", "rebuild", "--yes", "--from-pool")
        assert refused.returncode == 1 and "already" in refused.stderr

        lose(server)
        made = rebuild(server, "--from", str(away_dir), "--key-file", key_file(away, tmp_path))
        assert made["queued"] == ["db", "files"] and made["outage"] == ["files"]
        assert server.ca == fingerprint
        server.pretend_medium()
        away_dir.rename(tmp_path / "not mounted")
        server.start()
        until(lambda: "place-away" in (tmp_path / "log").read_text())
        (tmp_path / "not mounted").rename(away_dir)  # what was ordered goes on by itself
        until(lambda: state(server, "db")["newest_version"] and arrived(server, held))
        for uuid in (agent.uuid, hand.uuid):
            assert check_version(server.pool.primary(uuid).need_newest()) == []
        # Nothing started by itself: its original may come back, or a person decides.
        assert state(server, "files")["state"] == "outage"
        assert hand.poll()["order"] == "none"
        until(lambda: state(server, "files")["state"] == "normal")
        assert hand.begin()["base"] == server.pool.primary(hand.uuid).need_newest().stamp
        hand.send_disk()
        hand.seal()
        with Path(disk).open("r+b") as stream:
            stream.write(os.urandom(MIB))
            os.fsync(stream.fileno())
        result = replicate(server, "db")
        assert MIB <= int(result["bytes_sent"]) < 4 * MIB  # type: ignore[call-overload]
        newest = server.pool.primary(agent.uuid).need_newest()
        command("cmp", newest.raw(0), disk)
        # It goes on as the server that it was: its place is known, with key and times.
        assert away.shown()["times"] == ["03:00"]
        assert away.done("run")["versions"]

        # Only the system's disk is lost: the pool's image is saved, and the machine that takes it
        # has the address under which agents were told to look for it as well.
        server.stop()
        first, server.port = server.url, spare
        unmount_image(server.data / "pool")
        shutil.move(server.data / "pool.img", tmp_path / "saved.img")
        lose(server)
        server.data.mkdir()
        shutil.move(tmp_path / "saved.img", server.data / "pool.img")
        server.settings_file.write_text(
            f'data_dir = "{server.data}"\npool_path = "{server.data}/pool"\n'
            f'listen_port = {server.port}\nlisten_host = "127.0.0.1"\n'
            f'libvirt_uri = "qemu+unix:///system?socket={tmp_path}/nobody"\n'
        )
        made = rebuild(server, "--from-pool")
        assert made["known"] is True and made["primaries"] == ["db", "files"]
        assert made["agents_call"][-1] == elsewhere  # type: ignore[index]
        server.pretend_medium()
        server.start()
        assert server.ca == fingerprint
        replicate(server, "db")
        kept = recall(agent.directory / "etc", first)
        assert kept.last == elsewhere and kept.ordered[0] == elsewhere and first in kept.ordered
        hand.client.close()
        hand.client = hand.connect()
        assert hand.poll()["order"] == "none"


def replicate(server: ServerProcess, name: str) -> dict[str, object]:
    with server.root() as root:
        answer = root.post(f"/api/v1/primaries/{name}/replicate")
        assert answer.status_code == 202, answer.text
    row = server.await_job(answer.json()["id"])
    assert row["state"] == "done", row
    result: dict[str, object] = row["result"]
    return result


def state(server: ServerProcess, name: str) -> dict[str, object]:
    with server.root() as root:
        row: dict[str, object] = root.get(f"/api/v1/primaries/{name}").json()
        return row


def arrived(server: ServerProcess, stamp: str) -> bool:
    return str(state(server, "files")["newest_version"]) >= stamp


@pytest.fixture
def second(tmp_path: Path) -> Iterator[ServerProcess]:
    """An empty machine whose pool a libvirt that comes later can see."""
    server = ServerProcess(tmp_path / "second")
    (server.data / "pool").mkdir(parents=True)
    make_xfs(tmp_path / "second.img", 4 << 30)
    mount_image(tmp_path / "second.img", server.data / "pool")
    yield server
    server.put_away()


def test_a_stand_in_starts_on_the_server_that_was_made_again(
    tmp_path: Path, second: ServerProcess
) -> None:
    """End to end with a real machine: lost, rebuilt from the off-load, started there."""
    away_dir = tmp_path / "away"
    away_dir.mkdir()
    (tmp_path / "first").mkdir()
    with rehearsable(tmp_path / "first", "rebuild", 207) as scene:
        first = scene.server
        hand = HandAgent(first, "files")
        hand.protect()
        away = Away.add(first, "nas", "--directory", str(away_dir))
        away.done("run")
        hand.close()
        lose(first)
        second.inside, second.port, second.settings = first.inside, first.port, first.settings
        made = rebuild(second, "--from", str(away_dir), "--key-file", key_file(away, tmp_path))
        assert made["queued"] == ["files", "shop"]
        second.pretend_medium()
        second.start()
        scene.server = second
        until(lambda: scene.ask("/primaries/shop")["newest_version"])
        ready(scene)
        with second.root() as root:
            body = {"overrule_reason": "the original burned with the server"}
            answer = root.post("/api/v1/primaries/shop/activate", json=body)
            assert answer.status_code == 202, answer.text
        row = second.await_job(answer.json()["id"], BOOT_S)
        assert row["state"] == "done", row
        assert scene.state() == "emergency"
        until(lambda: "ASKED" in scene.console("standin") or reached(scene), BOOT_S)
        second.stop()


def ready(scene: Scene) -> None:
    """The server prepares it by itself; here no real medium is there to do it."""
    from rehearsal_scene import _prepare

    _prepare(scene)


def reached(scene: Scene) -> bool:
    return "REACHED" in scene.console("standin")
