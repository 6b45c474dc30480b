"""After a reboot only what may have changed is read, whatever way it was changed; needs root."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_receiver import Receiver
from holes import new_file
from source_machine import MIB, copy_while_frozen
from two_filesystems import QUIET_MIB, TwoFilesystems, differing, ready

from notfallserver.agent.changes import boots, ledger, reboot
from notfallserver.agent.changes.kept import KeptFiles
from notfallserver.agent.changes.pins import Pins
from notfallserver.agent.inodes import filesystems
from notfallserver.agent.outcome import Outcome
from notfallserver.agent.place import Place
from notfallserver.agent.service import Service
from notfallserver.agent.stop import Stop
from notfallserver.agent.work.linux import LinuxWork

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Life:
    """The agent's processes and the machine's boots, one after another."""

    def __init__(self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        self._receiver = receiver
        self._place = Place(receiver.config)
        self._boot = 0
        for module in (ledger, reboot):
            monkeypatch.setattr(module, "boot_id", lambda: f"boot{self._boot}")
        monkeypatch.setattr(boots, "went_down_in_order", lambda: True)
        self.service = Service(receiver.config, Stop())

    def replicate(self) -> Outcome:
        return self.service.replicate()

    @property
    def work(self) -> LinuxWork:
        found = self.service.first.work
        assert isinstance(found, LinuxWork)
        return found

    def go_down(self) -> bool:
        """The agent ends as the machine goes down; from here on nobody watches."""
        kept = self.work.ledger().keep(self._place, self._receiver.uuid, True)
        self.service.close()
        Pins(self._place).drop()
        self._place.state.unlink()
        self._boot += 1
        return kept

    def come_up(self) -> None:
        self.service = Service(self._receiver.config, Stop())
        self.work.prepare()


@pytest.fixture
def life(
    two: TwoFilesystems, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Life]:
    receiver.settings(two.disks)
    life = Life(receiver, monkeypatch)
    yield life
    life.service.close()


def test_after_a_reboot_what_changed_is_read_and_little_else(
    two: TwoFilesystems, receiver: Receiver, life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = copy_while_frozen(two, monkeypatch)
    monkeypatch.setattr(filesystems, "BOOT", two.places)
    two.fill()
    changes = ready(two)
    assert life.replicate().read_all
    time.sleep(2.1)  # what was written shortly before the machine goes down is read anyway
    assert life.go_down()
    for change in changes:
        change()
    life.come_up()
    late = new_file(two.places[0] / "late")
    second = life.replicate()
    assert not second.read_all
    assert second.bytes_read < (2 * QUIET_MIB + 100) * MIB
    assert differing(receiver, two, copies) == []
    # Down and up again: the tracker's marks of the time between count, too.
    new_file(late)
    for place in two.places:
        (place / "quiet0").write_bytes(os.urandom(8 * MIB))
    time.sleep(2.1)
    assert life.go_down()
    life.come_up()
    third = life.replicate()
    assert not third.read_all
    assert not KeptFiles(Place(receiver.config).kept).take()
    assert third.bytes_read < second.bytes_read
    assert differing(receiver, two, copies) == []


def test_a_deep_run_tells_what_changed_unseen_and_nothing_else(
    two: TwoFilesystems, receiver: Receiver, life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = copy_while_frozen(two, monkeypatch)
    files = [new_file(place / "file") for place in two.places]
    life.replicate()
    for file in files:
        _overwrite(file, 256 << 10)
    over = threading.Event()
    writer = threading.Thread(target=_write_until, args=(over, two.places[0] / "busy"))
    writer.start()
    try:
        quiet = life.service.replicate(deep=True)
    finally:
        over.set()
        writer.join()
    assert (quiet.read_all, quiet.unexplained) == (False, 0)
    assert quiet.bytes_sent > 512 << 10
    assert receiver.seals[-1]["deep"]
    # A tracker that overlooks the next writes.
    for file in files:
        _overwrite(file, 128 << 10)
    changes = life.work.ledger().changes
    changes.take()
    changes.take()
    changes.settle()
    changes.forget()
    changes.take()
    shallow = life.replicate()
    assert not shallow.read_all
    assert len(differing(receiver, two, copies)) >= 4
    found = life.service.replicate(deep=True)
    assert found.unexplained >= 4  # and what the journals wrote in that time
    assert receiver.store.need_newest().manifest.unexplained == found.unexplained
    assert differing(receiver, two, copies) == []
    assert life.replicate().read_all
    assert life.service.replicate(deep=True).unexplained == 0


def _overwrite(path: Path, length: int) -> None:
    with path.open("r+b", 0) as stream:
        stream.write(os.urandom(length))
        os.fsync(stream.fileno())


def _write_until(over: threading.Event, path: Path) -> None:
    with path.open("wb", 0) as stream:
        while not over.wait(0.01):
            stream.seek(0 if stream.tell() > 8 * MIB else stream.tell())
            stream.write(os.urandom(100_000))
            os.fdatasync(stream.fileno())


@pytest.mark.parametrize("unlike", ["crash", "process", "clock", "primary", "prints", "nfs"])
def test_whatever_is_in_doubt_makes_the_agent_read_all(
    receiver: Receiver, life: Life, monkeypatch: pytest.MonkeyPatch, unlike: str
) -> None:
    life.replicate()
    kept = Place(receiver.config).kept
    assert life.go_down()
    assert (kept / "kept").stat().st_mode & 0o777 == 0o600
    if unlike == "crash":
        monkeypatch.setattr(boots, "went_down_in_order", lambda: False)
    elif unlike == "nfs":
        monkeypatch.setattr(boots, "serves_files", lambda: True)
    elif unlike == "prints":
        with (kept / "prints").open("ab") as stream:
            stream.write(b"x")
    else:
        told = json.loads((kept / "kept").read_text())
        told.update(
            {
                "process": {"down": False},
                "clock": {"moment_ns": time.time_ns() + 10**12},
                "primary": {"primary": "other"},
            }[unlike]
        )
        (kept / "kept").write_text(json.dumps(told))
    life.come_up()
    assert not kept.exists()
    assert life.replicate().read_all
