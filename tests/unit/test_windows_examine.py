"""The report that an owner of a Windows machine makes."""

from __future__ import annotations

import json

import pytest

from notfall_lab.windows.scene import DISK_SIZE, SIZE, Base, Scene, make_base
from notfallserver.agent.windows.examine import examine


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return make_base(tmp_path_factory.mktemp("base"))


def test_a_report_of_a_machine(base: Base) -> None:
    scene = Scene(base)
    report = json.loads(json.dumps(examine(scene.machine, scene.take)))
    assert "error" not in json.dumps(
        [report[one] for one in ("disks", "volumes", "facts", "moment")]
    )
    assert report["fitness"] == "fit"
    assert report["disks"][0]["size"] == DISK_SIZE
    (volume,) = report["snapshots"]["volumes"]
    assert (volume["snapshot_size"], volume["free_by_windows"]) == (SIZE, None)
    assert (volume["log_is_clean"], volume["worthless"]) == (True, 5_001_216)
    assert report["snapshots"]["writers"] == [{"name": "NTDS", "state": 5, "failure": 0}]
    assert report["moment"]["blocks_read"] > 3
    assert scene.windows.released == 2
    assert not any(one.open for one in scene.machine.handles)


def test_what_fails_is_in_the_report(base: Base) -> None:
    scene = Scene(base)
    scene.windows.results["DoSnapshotSet"] = 0x8004231F
    report = examine(scene.machine, scene.take)
    assert "0x8004231f" in report["snapshots"]["error"]
    assert report["facts"]["hostname"] == "DC01"
    scene.machine.devices[0].refused = 5
    assert "windows-refused" not in report["facts"]
    assert "Windows error 5" in examine(scene.machine, scene.take)["disks"]["error"]
