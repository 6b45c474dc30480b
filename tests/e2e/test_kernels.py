"""The agent's claims about storage in layers, in guests with the kernels of three releases."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from notfall_lab.kernels import PROGRAMS, ask, garbage_disk, kernel_guest
from notfallserver.server.agent_package import pack_agent

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

DISKS = ((64, 512), (24, 512), (36, 512), (40, 512), (20, 4096))
"""MiB and sector size; vdc and so on in ``kernel_guest/layers_probe.py``."""


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("suite", ["bullseye", "trixie"])  # bookworm's: see test_storage.py
def test_writes_and_free_space_are_known_through_all_layers(suite: str, tmp_path: Path) -> None:
    agent = tmp_path / "agent.pyz"
    agent.write_bytes(pack_agent())
    payload = {"main.py": PROGRAMS / "layers_probe.py", "agent.pyz": agent}
    disks = [
        garbage_disk(tmp_path / f"disk{number}", mib, sector)
        for number, (mib, sector) in enumerate(DISKS)
    ]
    told = ask(kernel_guest(suite), tmp_path / "guest", payload, disks, 600)
    assert "error" not in told, told["error"]
    tracker, census = told["tracker"], told["census"]
    assert tracker["broken"] == ""
    for name, disk in tracker["disks"].items():
        assert disk["changed"] > 3, (name, disk)
        assert disk["missed"] == 0, (name, disk)
        assert disk["marked"] <= disk["changed"] + 8, (name, disk)  # nor is much marked in vain
    assert census["fsck"] == [] and census["different"] == []
    assert census["files"] == 20
    for name, free in census["free"].items():
        assert free > census["blocks"][name] // 3, (name, free)
