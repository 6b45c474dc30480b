"""Files that an agent told of are found again in the copy, and told from those that differ."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from agent_receiver import Receiver, loop_device
from source_machine import Machine

from notfallserver.agent import sample, sampling
from notfallserver.agent.service import Service
from notfallserver.guest.check import CLEAN, Comparison, check_filesystems
from notfallserver.server.pool.version import SampleFile

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def compared(told: tuple[SampleFile, ...], images: list[Path], folder: Path) -> Comparison:
    """As the appliance does it."""
    copies = [Path(shutil.copyfile(one, folder / one.name)) for one in images]
    comparison = Comparison([vars(one) for one in told])
    with loop_device(copies[0]) as first, loop_device(copies[1]) as second:
        found = check_filesystems([first, second], comparison)
    assert all(one.state == CLEAN for one in found if one.volume.filesystem in sample.KINDS)
    return comparison


def test_a_copy_holds_what_the_agent_told(
    machine: Machine,
    receiver: Receiver,
    agent: Service,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sample, "ADAPTED", ())  # the disks of tests are mounted below /tmp
    for place in (machine.main, machine.data):
        for number in range(30):
            (place / "shop" / f"{number % 5}").mkdir(parents=True, exist_ok=True)
            (place / "shop" / f"{number % 5}" / f"order{number}").write_bytes(os.urandom(5000))
        (place / "shop" / "link").symlink_to("/etc/passwd")
    agent.replicate()
    version = receiver.store.need_newest()
    assert version.manifest.sample == ()  # nothing there is a day old
    monkeypatch.setattr(sample, "AT_REST_S", 0)
    taken = sample.take_sample

    def take_and_change(disks: object) -> list[sample.Taken]:
        found = taken(disks)  # type: ignore[arg-type]
        assert found
        Path(found[0].path).write_bytes(b"changed after it was hashed")
        return found

    monkeypatch.setattr("notfallserver.agent.run.take_sample", take_and_change)
    agent.replicate()
    version = receiver.store.need_newest()
    told = version.manifest.sample
    assert 10 <= len(told) < sampling.FILES
    assert len({one.filesystem for one in told}) == 2
    assert all(one.path.count("/") >= 1 and 0 < one.size <= sampling.LARGEST for one in told)
    images = [version.raw(one.index) for one in version.manifest.disks]
    same = compared(told, images, tmp_path)
    assert (same.compared, same.differing) == (len(told), [])

    agent.replicate()  # what is told of one version is not so in another
    wrong = told[0]
    hurt = (SampleFile(wrong.filesystem, wrong.path, wrong.size, "0" * 64), *told[1:])
    gone = SampleFile(told[1].filesystem, "/nowhere/at/all", 5, "0" * 64)
    elsewhere = SampleFile("0000-0000", "/on/another/disk", 5, "0" * 64)
    found = compared((*hurt, gone, elsewhere), images, tmp_path)
    assert found.compared == len(told) + 1
    assert set(found.differing) == {wrong.path, gone.path}
