"""A version as image files for other hypervisors: written and read by the real tools, enclosed."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import libvirt
import pytest
from carry_scene import MAC, SIZES, Scene

from notfall_lab.patience import PATIENCE_S
from notfallserver.server.cycle import exports
from notfallserver.server.cycle.import_copy import copy_disk
from notfallserver.server.cycle.normal.runs import Runs
from notfallserver.server.foreign import export
from notfallserver.server.foreign.chain import find_image
from notfallserver.server.foreign.export import Kind
from notfallserver.server.foreign.source import opened_source
from notfallserver.server.pool.known import KnownContent
from notfallserver.server.records.jobs import Job
from notfallserver.wire.errors import NotfallError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.close()


def begin(scene: Scene, kind: Kind = Kind.QCOW2, adapt: bool = False) -> Job:
    return scene.exports.begin(scene.row, scene.to, kind, "", adapt, "ada")


def exported(scene: Scene, kind: Kind, adapt: bool = False) -> Path:
    job = scene.end_of(begin(scene, kind, adapt))
    assert job.state == "done", job.error
    return Path(job.result["directory"])


@pytest.mark.parametrize("kind", Kind)
def test_what_is_exported_is_imported_as_the_same_blocks(scene: Scene, kind: Kind) -> None:
    made = exported(scene, kind)
    other = scene.pool.add_primary("7d1f7c1e-0b1a-4a5e-9d3f-0000000000ff", "again")
    runs = Runs(scene.pool, KnownContent(scene.pool, False))
    machine = scene.version.manifest.machine
    run = str(runs.begin(other.uuid, "again", {"machine": machine.to_json()})["run"])
    for index in range(2):
        with opened_source(find_image(made / f"disk{index}.{kind}"), lambda: None) as source:
            copy_disk(source.stretches(), index, runs, other.uuid, run, lambda count: None)
    body = {"machine": machine.to_json(), "consistency": "crash"}
    again = runs.seal(other.uuid, run, body).version
    runs.close()
    assert again is not None
    assert again.manifest.disks == scene.version.manifest.disks  # with the hash of the index
    assert sum(one.stat().st_blocks for one in made.iterdir()) * 512 < 24 << 20
    assert scene.pins() == {}
    assert [one.name for one in scene.to.iterdir()] == [made.name]
    told = json.loads((made / "machine.json").read_text())
    assert [one["size"] for one in told["disks"]] == list(SIZES)
    assert told["machine"]["nics"][0]["mac"] == MAC
    assert MAC in (made / "README.txt").read_text()


def test_libvirt_takes_the_machine_that_lies_beside(scene: Scene) -> None:
    made = exported(scene, Kind.QCOW2)
    connection = libvirt.open("test:///default")
    try:
        domain = connection.defineXML((made / "libvirt.xml").read_text())
        told = ET.fromstring(domain.XMLDesc())  # noqa: S314
    finally:
        connection.close()
    assert told.findtext("name") == "shop"
    files = [one.get("file") for one in told.findall("devices/disk/source")]
    assert files == [str(made / "disk0.qcow2"), str(made / "disk1.qcow2")]
    assert {one.get("type") for one in told.findall("devices/disk/driver")} == {"qcow2"}
    assert str(scene.pool.root) not in ET.tostring(told, encoding="unicode")


def test_the_ovf_names_what_is_there_and_its_sums_are_right(scene: Scene) -> None:
    made = exported(scene, Kind.VMDK)
    (ovf,) = made.glob("*.ovf")
    told = ET.parse(ovf).getroot()  # noqa: S314
    space = {"o": "http://schemas.dmtf.org/ovf/envelope/1"}
    key = "{http://schemas.dmtf.org/ovf/envelope/1}"
    files = told.findall("o:References/o:File", space)
    assert [one.get(key + "href") for one in files] == ["disk0.vmdk", "disk1.vmdk"]
    sizes = [int(str(one.get(key + "size"))) for one in files]
    assert sizes == [(made / f"disk{n}.vmdk").stat().st_size for n in (0, 1)]
    capacities = [one.get(key + "capacity") for one in told.findall("o:DiskSection/o:Disk", space)]
    assert capacities == [str(one) for one in SIZES]
    assert MAC in ovf.read_text()
    (sums,) = made.glob("*.mf")
    for line in sums.read_text().splitlines():
        name, _, digest = line.removeprefix("SHA256(").partition(")= ")
        line_of_tool = subprocess.check_output(["sha256sum", str(made / name)], text=True)
        assert line_of_tool.split()[0] == digest


def test_the_adapted_clone_is_exported_and_the_version_stays(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def adapt(
        settings: Any, hypervisor: Any, medium: Any, clones: Any, machine: Any, job: Any, check: Any
    ) -> dict[str, Any]:
        asked.append(job["hardware"])
        with clones.disks[0].open("r+b") as stream:
            stream.write(b"adapted")
        return {"changes": ["boot code"], "clock": ""}

    monkeypatch.setattr(exports, "adapt_clones", adapt)
    made = exported(scene, Kind.VHDX, adapt=True)
    with opened_source(find_image(made / "disk0.vhdx"), lambda: None) as source:
        assert source.read(0, 7) == b"adapted"
    assert scene.version.raw(0).read_bytes()[:7] != b"adapted"
    assert [one["driver"] for one in asked[0]["disks"]] == ["ata_piix", "ata_piix"]
    assert json.loads((made / "machine.json").read_text())["adapted_to"] == "Hyper-V"
    assert list(scene.store.paths.work.iterdir()) == []


def test_nothing_is_overwritten_and_nothing_begun_without_room(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(to: Path = scene.to) -> str:
        with pytest.raises(NotfallError) as caught:
            scene.exports.begin(scene.row, to, Kind.RAW, "", False, "ada")
        return caught.value.code

    exported(scene, Kind.QCOW2)
    assert refused() == "export-exists"
    assert refused(scene.directory / "nowhere") == "no-such-directory"
    assert refused(scene.store.paths.root) == "export-in-pool"
    empty = scene.directory / "other"
    empty.mkdir()
    monkeypatch.setattr(export, "SPARE", 1 << 60)
    assert refused(empty) == "export-no-space"
    assert list(empty.iterdir()) == []


def test_a_damaged_version_is_not_exported(scene: Scene) -> None:
    with scene.version.raw(0).open("r+b") as stream:
        stream.seek(90 << 16)
        stream.write(b"rotten")
    job = scene.end_of(begin(scene))
    assert job.error is not None and job.error["code"] == "export-differs"
    assert "block 90" in job.error["cause"]
    assert list(scene.to.iterdir()) == [] and scene.pins() == {}


def test_a_server_that_ends_begins_again_and_a_cancelled_export_leaves_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, slow = export.write_disk, [True]

    def waits(raw: Path, room: Path, name: str, kind: Kind, tell: export.Tell) -> Path:
        made = write(raw, room, name, kind, tell)
        while slow[0]:
            tell(0)
            time.sleep(0.01)
        return made

    def until_pinned() -> None:
        until = time.monotonic() + PATIENCE_S
        while not list(scene.to.glob(".*/disk0.*")):
            assert time.monotonic() < until
            time.sleep(0.01)

    monkeypatch.setattr(exports, "write_disk", waits)
    job = begin(scene)
    until_pinned()
    scene.runner.stop()
    assert list(scene.pins()) == [scene.version.stamp]
    left = scene.to / f".notfall-export-{job.id}.part"
    left.mkdir(exist_ok=True)  # as a killed server leaves it
    (left / "disk0.qcow2").write_bytes(b"half")
    stranger = scene.to / ".notfall-export-00.part"
    stranger.mkdir()
    slow[0] = False
    scene.start()
    (again,) = scene.runner.resume_unfinished()
    assert scene.end_of(again).state == "done"
    assert scene.pins() == {} and not left.exists() and not stranger.exists()
    scene.add_version({0: [5], 1: [6]}, seed=1)
    slow[0] = True
    second = begin(scene)
    until_pinned()
    scene.runner.cancel(second.id, "ada")
    assert scene.end_of(second).state == "cancelled"
    assert len(list(scene.to.iterdir())) == 1 and scene.pins() == {}
