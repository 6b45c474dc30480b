"""What several tests share: servers as they are, a machine with disks and its agent, targets.

Tests that change or kill the server start their own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex

import pytest
from agent_receiver import Receiver, loop_device
from hand_agent import HandAgent
from rescue_target import MIB, SIZE, Target
from server_process import ServerProcess, running
from source_machine import Machine
from two_filesystems import TwoFilesystems

from notfallserver.agent.changes.keeping import remove_traces
from notfallserver.agent.place import Place
from notfallserver.agent.service import Service
from notfallserver.agent.stop import Stop
from notfallserver.wire.blocks import BLOCK
from notfallserver.wire.facts import Disk


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(ServerProcess(tmp_path_factory.mktemp("server"))) as server:
        yield server


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with ExitStack() as cleanup:
        yield Machine(tmp_path, cleanup)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[TwoFilesystems]:
    with ExitStack() as cleanup:
        yield TwoFilesystems(tmp_path, cleanup)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    (tmp_path / "server").mkdir()
    receiver = Receiver(tmp_path / "server")
    yield receiver
    remove_traces(Place(receiver.config))
    receiver.close()


@pytest.fixture
def agent(machine: Machine, receiver: Receiver) -> Iterator[Service]:
    receiver.settings(machine.disks)
    service = Service(receiver.config, Stop())
    yield service
    service.close()


@pytest.fixture(scope="session")
def machineless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose libvirt knows of no machine: stand-ins count as shut down."""
    settings = {"libvirt_uri": "test:///default"}
    with running(ServerProcess(tmp_path_factory.mktemp("target"), settings)) as server:
        yield server


@pytest.fixture
def in_emergency(machineless: ServerProcess) -> Iterator[HandAgent]:
    """A primary whose stand-in works; the first half of its disk is a hole."""
    half = SIZE // 2 // BLOCK * BLOCK
    agent = HandAgent(machineless, f"p{token_hex(4)}", bytes(half) + os.urandom(SIZE - half))
    agent.protect()
    machineless.put_in_emergency(agent.uuid)
    yield agent
    agent.close()


@pytest.fixture
def target_disk(tmp_path: Path) -> Iterator[Disk]:
    """A larger disk that holds something."""
    image = tmp_path / "target.img"
    image.write_bytes(os.urandom(32 * MIB))
    with loop_device(image) as device:
        yield Disk(device.removeprefix("/dev/"), 32 * MIB, serial="T1", model="Loop")


@pytest.fixture
def boot(machineless: ServerProcess) -> Iterator[Callable[..., Target]]:
    """Boots a target with some disks."""
    booted: list[Target] = []

    def one(*disks: Disk, firmware: str = "bios") -> Target:
        booted.append(Target(machineless, *disks, firmware=firmware))
        return booted[-1]

    yield one
    for target in booted:
        target.client.close()
