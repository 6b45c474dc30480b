"""The other kinds of places, each a real service on this machine: S3 (moto), REST (rclone), SFTP
(OpenSSH), and removable disks (loop devices); needs root."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest
from agent_receiver import loop_device
from hand_agent import HandAgent
from offload_scene import Away, protect
from server_process import ServerProcess, free_port, running

from notfall_lab.patience import PATIENCE_S, until
from notfallserver.server.host.run import run
from notfallserver.server.pool.version import check_version
from notfallserver.wire.blocks import BLOCK

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@contextmanager
def serving(port: int, *line: str) -> Iterator[None]:
    """A service of this machine, from when its port answers."""
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until_time = time.monotonic() + PATIENCE_S
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert process.poll() is None and time.monotonic() < until_time
                    time.sleep(0.1)
            yield
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def carrier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, HandAgent]]:
    with running(ServerProcess(tmp_path_factory.mktemp("places"))) as server:
        agent = HandAgent(server, "shop", os.urandom(40 * BLOCK))
        protect(agent)
        yield server, agent
        agent.close()


def goes_and_comes(away: Away, agent: HandAgent) -> None:
    """Carried there, and after a loss brought back."""
    store = away.server.pool.primary(agent.uuid)
    stamp = store.need_newest().stamp
    assert [one["version"] for one in away.done("run")["versions"]] == [stamp]
    store.remove_version(stamp)
    assert away.done("restore", primary="shop")["version"] == stamp
    assert check_version(store.version(stamp)) == []


def test_s3(carrier: tuple[ServerProcess, HandAgent], tmp_path: Path) -> None:
    server, agent = carrier
    port = free_port()
    program = str(Path(sys.executable).with_name("moto_server"))
    with serving(port, program, "-H", "127.0.0.1", "-p", str(port)):
        url = f"http://127.0.0.1:{port}"
        boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="AKIAFIRE",
            aws_secret_access_key="very-secret",
        ).create_bucket(Bucket="away")
        secrets = tmp_path / "secrets"
        secrets.write_text("access_key=AKIAFIRE\nsecret_key=very-secret\n")
        options = ("--s3", url, "--path", "away/office", "--secrets-file", str(secrets))
        goes_and_comes(Away.add(server, "cloud", *options), agent)
    assert "very-secret" not in server.log()


def test_rest(carrier: tuple[ServerProcess, HandAgent], tmp_path: Path) -> None:
    server, agent = carrier
    port = free_port()
    (tmp_path / "rest").mkdir()
    line = ["rclone", "serve", "restic", "--addr", f"127.0.0.1:{port}"]
    line += ["--user", "office", "--pass", "geheim/1", str(tmp_path / "rest")]
    secrets = tmp_path / "secrets"
    with serving(port, *line):
        options = ("--rest", f"http://127.0.0.1:{port}", "--path", "office")
        secrets.write_text("user_name=office\npassword=wrong\n")
        wrong = Away.add(server, "shut", *options, "--secrets-file", str(secrets))
        assert wrong.refused("run") == "offload-no-way"
        secrets.write_text("user_name=office\npassword=geheim/1\n")
        goes_and_comes(Away.add(server, "rest", *options, "--secrets-file", str(secrets)), agent)
    assert Away(server, "rest", "").refused("check") == "offload-no-way"
    assert "geheim" not in server.log()


def test_sftp(carrier: tuple[ServerProcess, HandAgent]) -> None:
    server, agent = carrier
    port = free_port()
    # sshd looks at who may write in each directory above, so not below the tests' own.
    home = Path("/var/lib") / f"nf-sftp-{os.getpid()}"
    home.mkdir(mode=0o700)
    try:
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / "host"])
        away = Away.add(server, "ssh", "--sftp", f"root@127.0.0.1:{port}", "--path", f"{home}/far")
        (home / "keys").write_text(away.shown()["public_key"] + "\n")
        (home / "config").write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {home}/host\nPidFile none\n"
            f"AuthorizedKeysFile {home}/keys\nPermitRootLogin prohibit-password\nUsePAM no\n"
            "Subsystem sftp internal-sftp\n"
        )
        Path("/run/sshd").mkdir(exist_ok=True)
        with serving(port, "/usr/sbin/sshd", "-D", "-f", str(home / "config")):
            assert away.refused("run") == "offload-no-way"  # nobody said whose key it is
            trusted = server.notfall("offload", "place", "trust", "ssh")
            own = run(["ssh-keygen", "-l", "-f", home / "host.pub"]).out.split()[1]
            assert own in trusted.stdout
            goes_and_comes(away, agent)
    finally:
        shutil.rmtree(home)


def test_disks_in_rotation(carrier: tuple[ServerProcess, HandAgent], tmp_path: Path) -> None:
    """Plugged in, each is off-loaded to and let go by itself; the other one later."""
    server, agent = carrier
    uuids = []
    blank = tmp_path / "blank.img"
    blank.write_bytes(bytes(1 << 20))
    for number in (1, 2):
        image = tmp_path / f"disk{number}.img"
        with image.open("wb") as stream:
            stream.truncate(96 << 20)
        run(["mkfs.ext4", "-q", image])
        uuids.append(run(["blkid", "-o", "value", "-s", "UUID", image]).out.strip())
    away = Away.add(server, "disks", "--disk", uuids[0], "--disk", uuids[1])
    assert away.refused("run") == "place-away"
    for number, uuid in enumerate(uuids):
        # One without any filesystem is there before it.
        with loop_device(blank), loop_device(tmp_path / f"disk{number + 1}.img"):
            until(lambda uuid=uuid: done(away, uuid))  # type: ignore[misc]
            until(lambda: str(away.folder) not in Path("/proc/mounts").read_text())
        protect(agent)
    held = [
        {one["version"] for one in away.contents(disk=uuid) if one["primary"]} for uuid in uuids
    ]
    assert all(len(one) == 1 for one in held) and held[0] != held[1]
    assert away.shown()["standing"] == "well"


def done(away: Away, uuid: str) -> bool:
    return any(one["disk"] == uuid and one["done_at"] for one in away.shown()["media"])
