"""A first copy by removable disk, but for Windows: the seed holds what the line would carry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from seed_receiver import SeedReceiver

from notfall_lab.windows.scene import SIZE, START, Base, Scene, make_base
from notfallserver.agent.duty import Duty
from notfallserver.agent.servers import known_servers
from notfallserver.agent.stop import Stop
from notfallserver.agent.windows.duty import WindowsHost
from notfallserver.wire.errors import NotfallError


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[SeedReceiver]:
    found = SeedReceiver(tmp_path)
    yield found
    found.close()


def duty_of(scene: Scene, receiver: SeedReceiver) -> Duty:
    settings, stop = receiver.settings([]), Stop()
    server = known_servers(receiver.config)[0]
    work = WindowsHost(receiver.config, scene.machine, scene.take, stop).work(server, settings)
    return Duty(server, settings, stop, work)


def test_a_seed_holds_the_snapshot(base: Base, receiver: SeedReceiver, tmp_path: Path) -> None:
    scene = Scene(base)
    outcome, directory = duty_of(scene, receiver).seed(tmp_path)
    assert receiver.blocks_bytes == 0
    assert receiver.store.newest() is None
    assert receiver.stamp == outcome.version
    version = receiver.take(directory)
    image = version.raw(0).read_bytes()
    assert image[:START] == scene.raw[:START]
    for content in (scene.contents["ledger"], scene.contents["small"]):
        assert content[:4096] in image[START : START + SIZE]
    paging, length = scene.paging
    assert image[paging : paging + length] == bytes(length)
    # On top of it the line carries nothing that is in it.
    before = receiver.blocks_bytes
    assert duty_of(scene, receiver).replicate().version
    assert receiver.blocks_bytes - before < 1 << 16
    assert receiver.image().read_bytes() == image


def test_a_seed_goes_on_another_disk(
    base: Base, receiver: SeedReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(base)
    monkeypatch.setattr("os.path.realpath", lambda _: "C:\\seeds")
    for to, code in ((tmp_path, "seed-on-own-disk"), (tmp_path / "none", "no-such-directory")):
        with pytest.raises(NotfallError) as caught:
            duty_of(scene, receiver).seed(to)
        assert caught.value.code == code
    assert scene.windows.names == []
