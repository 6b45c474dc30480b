"""What is open and for how long. In the place of the appliance is an SFTP server of this machine;
the real one is in the integration tests."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from notfall_lab.patience import until
from notfallserver.server.cycle.browse import shelf as shelves
from notfallserver.server.cycle.browse.shelf import MOST_OPEN, Phase, Shelf
from notfallserver.server.cycle.browse.tree import Wanted
from notfallserver.server.cycle.means import Means
from notfallserver.server.pool.store import Clones
from notfallserver.server.records import open_catalogue
from notfallserver.server.vm.appliance import Serving, ShownVolume
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

SFTP_SERVER = "/usr/lib/openssh/sftp-server"
pytestmark = pytest.mark.skipif(not Path(SFTP_SERVER).exists(), reason="needs an SFTP server")


class Pool:
    """A pool with every version that is asked for."""

    def __init__(self) -> None:
        self.clones: set[str] = set()

    def primary(self, uuid: str) -> Pool:
        return self

    def version(self, stamp: str) -> Any:
        return SimpleNamespace(stamp=stamp, manifest=SimpleNamespace(machine=Machine("m")))

    @contextmanager
    def working_clones(self, version: Any, purpose: str) -> Iterator[Clones]:
        assert purpose not in self.clones
        self.clones.add(purpose)
        try:
            yield Clones(Path("/nowhere"), (), {})
        finally:
            self.clones.remove(purpose)


class Appliances:
    """``fault`` is raised instead of starting one; ``wait`` is how long one takes to start."""

    def __init__(self, ground: Path) -> None:
        self.ground = ground
        self.fault: NotfallError | None = None
        self.wait = 0.0
        self.running: list[subprocess.Popen[bytes]] = []

    @contextmanager
    def serving(
        self, hypervisor: Any, medium: Any, disks: Any, kind: Any, sectors: Any, machine: Any,
        check: Callable[[], None],
    ) -> Iterator[Serving]:  # fmt: skip
        until = time.monotonic() + self.wait
        while time.monotonic() < until:
            check()
            time.sleep(0.01)
        if self.fault:
            raise self.fault
        with ExitStack() as stack:
            listening = stack.enter_context(socket.socket(socket.AF_UNIX))
            path = self.ground / f"s{len(self.running)}"
            listening.bind(str(path))
            listening.listen()

            def serve() -> None:
                line, _ = listening.accept()
                with line:
                    end = line.fileno()
                    process = subprocess.Popen([SFTP_SERVER, "-R"], stdin=end, stdout=end)
                    self.running.append(process)

            serving = threading.Thread(target=serve)
            serving.start()
            yield Serving(path, (ShownVolume("data", mount="/"),), [])
            serving.join()
            self.running[-1].wait(10)


@pytest.fixture
def appliances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Appliances:
    made = Appliances(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/letter").write_text("hello")
    monkeypatch.setattr(shelves, "serving_files", made.serving)
    monkeypatch.setattr(shelves, "find_medium", lambda directory: object())
    monkeypatch.setattr(shelves, "VOLUMES", f"{tmp_path}/".encode())
    monkeypatch.setattr(shelves, "TICK_S", 0.05)
    return made


@pytest.fixture
def means(tmp_path: Path) -> Iterator[Any]:
    catalogue = open_catalogue(tmp_path)
    settings = SimpleNamespace(accelerator="tcg")
    yield SimpleNamespace(
        pool=Pool(), catalogue=catalogue, settings=settings, hypervisor=None, rescue_dir=tmp_path
    )
    catalogue.close()


@pytest.fixture
def shelf(means: Any, appliances: Appliances) -> Iterator[Shelf]:
    made = Shelf(cast(Means, means))
    yield made
    made.close_all()
    assert means.pool.clones == set()
    until(lambda: all(one.poll() is not None for one in appliances.running))


def opened(shelf: Shelf, stamp: str = "1", who: str = "anna") -> None:
    shelf.open("p", stamp, who)
    until(lambda: phase(shelf, stamp) is Phase.OPEN)


def phase(shelf: Shelf, stamp: str = "1") -> Phase | None:
    found = shelf.showing("p", stamp)
    return found.phase if found else None


def test_all_look_at_one_and_the_journal_has_each_of_them(shelf: Shelf, means: Any) -> None:
    opened(shelf)
    for who in ("anna", "bert", "bert"):
        tree = shelf.volume("p", "1", "data", who)
        assert [one.name for one in tree.folder(b"", Wanted()).entries] == [b"letter"]
    for again in (False, True, False):
        shelf.note_copied("p", "1", "data", b"let\xffter\n", "bert", again)
    told = [(one.event, one.who, one.why) for one in means.catalogue.journal.entries("p")]
    copied = ("files-copied", "bert", "data: /let\\xffter\\n")
    assert told == [copied, copied, ("files-shown", "bert", ""), ("files-shown", "anna", "")]
    with pytest.raises(NotfallError, match="not in the copy"):
        shelf.volume("p", "1", "..", "anna")


def test_what_nobody_looks_at_is_closed(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "IDLE_S", 0.6)
    opened(shelf)
    tree = shelf.volume("p", "1", "data", "anna")
    for _ in range(10):
        time.sleep(0.1)
        tree.folder(b"", Wanted())
    assert phase(shelf) is Phase.OPEN
    until(lambda: phase(shelf) is None)
    with pytest.raises(NotfallError, match="no longer answers"):
        tree.folder(b"", Wanted())
    opened(shelf)


def test_one_that_is_closed_and_opened_again_waits_for_the_first(shelf: Shelf) -> None:
    for _ in range(5):
        opened(shelf)
        shelf.close("p", "1")
        assert phase(shelf) is None


def test_only_so_many(shelf: Shelf) -> None:
    for at in range(MOST_OPEN):
        opened(shelf, str(at))
    with pytest.raises(NotfallError, match="open already"):
        shelf.open("p", "another", "anna")
    shelf.open("p", "0", "bert")  # which is open
    shelf.close("p")
    assert shelf.all() == []


def test_a_failure_is_told_and_can_be_tried_again(shelf: Shelf, appliances: Appliances) -> None:
    appliances.fault = NotfallError("appliance-silent", "It ended.", status=500)
    shelf.open("p", "1", "anna")
    until(lambda: phase(shelf) is Phase.FAILED)
    found = shelf.showing("p", "1")
    assert found is not None and found.error is appliances.fault and shelf.all() == []
    appliances.fault = None
    opened(shelf)


def test_an_opening_is_given_up_at_once(shelf: Shelf, appliances: Appliances) -> None:
    appliances.wait = 60
    shelf.open("p", "1", "anna")
    until(lambda: phase(shelf) is Phase.STARTING)
    began = time.monotonic()
    shelf.close_all()
    assert time.monotonic() - began < 5 and phase(shelf) is None


def test_one_that_dies_is_closed(shelf: Shelf, appliances: Appliances) -> None:
    opened(shelf)
    appliances.running[-1].kill()
    with pytest.raises(NotfallError, match="no longer answers"):
        shelf.volume("p", "1", "data", "anna").folder(b"", Wanted())
    until(lambda: phase(shelf) is None)
