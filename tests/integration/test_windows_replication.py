"""A Windows machine of bytes replicates into the real pool: what arrives is the snapshot.

Everything but Windows itself is real: the agent's run, the protocol over TLS, the server's pool.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from agent_receiver import Receiver

from notfall_lab.windows.machine import MIB
from notfall_lab.windows.scene import (
    DISK_SIZE,
    SHADOW,
    SIZE,
    START,
    Base,
    Scene,
    make_base,
    tool,
)
from notfallserver.agent import config, sampling
from notfallserver.agent.line import Line
from notfallserver.agent.outcome import Outcome
from notfallserver.agent.stop import Stop
from notfallserver.agent.windows.replication import WindowsReplication
from notfallserver.agent.windows.system import Refused
from notfallserver.wire.client import Throttle
from notfallserver.wire.errors import NotfallError


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    found = Receiver(tmp_path)
    yield found
    found.close()


def replicate(scene: Scene, receiver: Receiver) -> Outcome:
    settings = receiver.settings([])

    def connect(throttle: Throttle | None) -> Line:
        return Line(config.connect(receiver.config, settings, throttle), Stop())

    return WindowsReplication(settings, scene.machine, scene.take, connect, Stop()).run()


def test_versions_hold_the_snapshots(
    base: Base, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(base)
    first = replicate(scene, receiver)

    assert first.consistency == "application"
    image = receiver.image().read_bytes()
    assert len(image) == DISK_SIZE
    check(scene, image, tmp_path)
    paging, length = scene.paging
    assert image[paging : paging + length] == bytes(length)
    seal = receiver.seals[-1]
    assert seal["frozen_at"].startswith("2024-01-17T21:20")
    assert seal["machine"]["disks"][0]["partitions"][0]["filesystem"] == "ntfs"
    assert [one["name"] for one in seal["applications"]] == ["NTDS"]
    assert seal["sample"] == []  # no file is a day old

    # Another file by the next snapshot: only what is new arrives.
    copy = tmp_path / "changed.img"
    copy.write_bytes(scene.still)
    (tmp_path / "new").write_bytes(os.urandom(MIB))
    tool("ntfscp", "-f", copy, tmp_path / "new", "new")
    scene.still = copy.read_bytes()
    scene.add_shadow(SHADOW, scene.still)
    scene.windows.writers = (("NTDS", 9, 0x800423F4),)
    monkeypatch.setattr(sampling, "AT_REST_S", 0.0)
    before = receiver.blocks_bytes
    second = replicate(scene, receiver)

    assert second.consistency == "filesystem"
    assert receiver.blocks_bytes - before < 3 * MIB
    image = receiver.image().read_bytes()
    check(scene, image, tmp_path)
    (tmp_path / "copy.img").write_bytes(image[START : START + SIZE])
    assert tool("ntfscat", tmp_path / "copy.img", "new") == (tmp_path / "new").read_bytes()
    told = {one.path: one.sha256 for one in receiver.store.need_newest().manifest.sample}
    small = sha256(scene.contents["small"]).hexdigest()
    assert told["/small"] == small
    assert not {"/ledger", "/pagefile.sys"} & set(told)


def check(scene: Scene, image: bytes, tmp_path: Path) -> None:
    assert image[:START] == scene.raw[:START]
    assert image[START + SIZE :] == scene.raw[START + SIZE :]
    copy = tmp_path / "copy.img"
    copy.write_bytes(image[START : START + SIZE])
    tool("ntfsfix", "-n", copy)
    subprocess.run(["ntfs-3g.probe", "--readwrite", copy], check=True)
    for name in ("ledger", "small"):
        assert tool("ntfscat", copy, name) == scene.contents[name]


def test_a_run_without_snapshot_is_told_and_leaves_the_last_version(
    base: Base, receiver: Receiver
) -> None:
    scene = Scene(base)
    replicate(scene, receiver)
    stamp = receiver.store.newest()
    scene.windows.results["DoSnapshotSet"] = 0x8004231F
    with pytest.raises(NotfallError) as caught:
        replicate(scene, receiver)
    assert caught.value.code == "no-snapshot"
    assert receiver.failures[-1]["code"] == "no-snapshot"
    assert receiver.store.newest() == stamp


def test_a_snapshot_that_is_lost_is_told(base: Base, receiver: Receiver) -> None:
    scene = Scene(base)
    whole = scene.machine.other[SHADOW].read

    def read(at: int, length: int) -> bytes:
        if at > 20 * MIB and length > 4096 * 4:
            raise Refused(433, "ReadFile")
        return whole(at, length)

    scene.machine.other[SHADOW].read = read
    with pytest.raises(NotfallError) as caught:
        replicate(scene, receiver)
    assert caught.value.code == "snapshot-lost"
    assert receiver.store.newest() is None
    assert scene.windows.names[-2:] == ["AbortBackup", "Release"]
