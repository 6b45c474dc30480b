"""The agent as it is shipped, with real disks: service, installation; needs root."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from agent_receiver import (
    Receiver,
    command,
    packed_agent,
)
from source_machine import MIB, Machine, check_version

from notfall_lab.patience import PATIENCE_S, until_soon
from notfallserver.agent.changes.keeping import remove_traces
from notfallserver.agent.place import Place

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def program(machine: Machine, receiver: Receiver, tmp_path: Path) -> Path:
    receiver.settings(machine.disks)
    return packed_agent(tmp_path / "agent.pyz")


def start(program: Path, receiver: Receiver, command_name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, program, command_name, "--config", receiver.config],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_the_service_works_on_order_and_continues_what_was_killed(
    machine: Machine, receiver: Receiver, program: Path
) -> None:
    service = start(program, receiver, "run")
    try:
        until_soon(lambda: "poll" in receiver.log)
        receiver.orders.append("replicate")
        until_soon(lambda: receiver.blocks_bytes > 20 * MIB)
    finally:
        service.kill()
        service.wait()
    sent = receiver.blocks_bytes
    service = start(program, receiver, "run")
    try:
        receiver.orders.append("replicate")
        until_soon(lambda: len(receiver.seals) == 1)
        receiver.orders.append("replicate")
        until_soon(lambda: len(receiver.seals) == 2)
    finally:
        service.terminate()
        assert service.wait(PATIENCE_S) == 0
    assert [one["read_all"] for one in receiver.seals] == [True, False]
    assert receiver.seals[0]["bytes_sent"] < 90 * MIB - sent * 0.8
    check_version(receiver, machine, {"main/file3": (machine.main / "file3").read_bytes()})


def test_a_stand_in_never_replicates(machine: Machine, receiver: Receiver, program: Path) -> None:
    (receiver.config / "role").write_text("stand-in\n")
    receiver.orders.append("replicate")
    service = start(program, receiver, "run")
    try:
        until_soon(lambda: receiver.log.count("poll") > 3)
    finally:
        service.terminate()
        assert service.wait(PATIENCE_S) == 0
    with start(program, receiver, "replicate") as by_hand:
        assert by_hand.wait(PATIENCE_S) == 1
    assert set(receiver.log) == {"poll"}


INSTALL = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from notfallserver.agent.install import Wish, install
from notfallserver.wire.errors import NotfallError
program, url, token, ca, disk, target = sys.argv[1:]
try:
    target = Path(target)
    print(install(Wish(url, token, Path(ca), [disk], False, target / "etc", target / "agent.pyz")))
except NotfallError as error:
    sys.exit(error.code)
"""


def test_installing_takes_a_valid_token_once_and_keeps_secrets(
    machine: Machine, receiver: Receiver, program: Path, tmp_path: Path
) -> None:
    def try_token(token: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                sys.executable,
                "-c",
                INSTALL,
                program,
                receiver.url,
                token,
                receiver.config / "ca.pem",
                machine.one,
                tmp_path / "target",
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert "bad-token" in try_token("wrong").stderr
    assert not (tmp_path / "target").exists()
    assert try_token("right").stdout.strip() == receiver.uuid
    assert "bad-token" in try_token("right").stderr
    files = tmp_path / "target" / "etc"
    assert {one.name for one in files.iterdir()} == {"agent.json", "ca.pem", "cert.pem", "key.pem"}
    assert all(one.stat().st_mode & 0o777 == 0o600 for one in files.iterdir())
    installed = tmp_path / "target" / "agent.pyz"
    try:
        told = json.loads(command(sys.executable, installed, "replicate", "--config", files))
    finally:
        remove_traces(Place(files))
    assert told["version"] == receiver.image().parent.name
