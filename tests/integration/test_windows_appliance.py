"""A Windows image in the real appliance: adapted to a stand-in, once, and its file systems checked.

Its registry is a real one (Windows 10 of a Dell, its logs not replayed), its drivers are not, and
nothing of it could be started here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from agent_receiver import command

from notfall_lab import windows_image
from notfall_lab.cache import base_directory
from notfall_lab.driver_folder import virtio_win
from notfall_lab.own_lab import own_lab
from notfall_lab.windows.bootable import ESP_AT, NTFS_AT, NTFS_END, SIZE, uefi_ten, windows_of
from notfallserver.guest.windows.hive import Hive
from notfallserver.guest.windows.laid_down import PACKAGES
from notfallserver.guest.windows.plan import ROLE_FILE
from notfallserver.guest.windows.read_drivers import read_served
from notfallserver.server.cycle.driver_store import DriverStore
from notfallserver.server.cycle.rehearsal.filesystems import read_checks
from notfallserver.server.cycle.standin import LOCALTIME, hardware_of
from notfallserver.server.pool.proof import VolumeState
from notfallserver.server.rescue_medium import Medium, build_medium
from notfallserver.server.vm.appliance import run_appliance
from notfallserver.server.vm.fit import fit
from notfallserver.server.vm.libvirt import LibvirtHypervisor
from notfallserver.server.vm.spec import Accelerator, Controller, NicModel, Uefi
from notfallserver.wire.facts import Disk, Machine, Nic, Partition

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

MAC = "52:54:00:77:00:0b"
ORIGINAL = Machine(
    "wks",
    system="Windows 10 Pro",
    kernel="10.0.16299",
    firmware="uefi",
    memory=2 << 30,
    disks=[
        Disk(
            "PhysicalDrive0",
            SIZE,
            driver="iaStorA",
            partitions=[
                Partition(1, ESP_AT, NTFS_AT - ESP_AT, filesystem="vfat"),
                Partition(2, NTFS_AT, NTFS_END - NTFS_AT, filesystem="ntfs", mountpoint="C:\\"),
            ],
        )
    ],
    nics=[Nic("Ethernet", MAC, "e1dexpress", ["198.51.100.10/24"])],
)


@pytest.fixture
def hypervisor() -> Iterator[LibvirtHypervisor]:
    folder = Path(mkdtemp(prefix="nfl-"))
    with own_lab("wguest", folder, net=22) as lab:
        yield LibvirtHypervisor(lab.uri)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def medium(tmp_path: Path) -> Medium:
    folder = tmp_path / "medium"
    return build_medium(folder, ["https://127.0.0.1:1"], "", base_directory() / "rescue")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """ESP, and Windows on NTFS."""
    return uefi_ten(tmp_path, MAC).image


def test_it_is_adapted_once_and_is_sound_then(
    hypervisor: LibvirtHypervisor, medium: Medium, disk: Path, tmp_path: Path
) -> None:
    """Its disk is a virtio one, whose driver comes from the customer's folder."""
    ran_on_virtio = replace(ORIGINAL.disks[0], driver="viostor")
    original = replace(ORIGINAL, disks=[ran_on_virtio])
    store = DriverStore(tmp_path / "drivers")
    store.add(virtio_win(tmp_path / "virtio"))
    spec = fit(
        original,
        [disk],
        name="wks",
        bridge="br0",
        accelerator=Accelerator.TCG,
        uefi=Uefi(Path("/code"), Path("/template"), Path("/nvram")),
        cpu_limit=1,
        memory_limit=1 << 30,
    )
    assert [one.controller for one in spec.disks] == [Controller.VIRTIO]
    assert [one.model for one in spec.nics] == [NicModel.E1000E]
    hardware = hardware_of(spec, original)
    job = {"task": "adapt", "machine": original.to_json(), "hardware": hardware}
    drivers = store.parcel_for(original, hardware)

    def run(what: dict[str, Any]) -> dict[str, Any]:
        machine = (hypervisor, medium, [disk], what, 900, Accelerator.TCG)
        return run_appliance(*machine, drivers=drivers)

    first = run(job)
    assert first["ok"], first
    assert first["system"] == "Windows 10 Pro"
    assert (first["boots_by"], first["clock"]) == (["uefi"], LOCALTIME)
    assert "driver storahci starts with Windows on any machine" in first["changes"]
    assert len([one for one in first["changes"] if "viostor" in one]) == 3
    second = run(job)
    assert (second["ok"], second["changes"]) == (True, [])
    with windows_of(disk, tmp_path, "ro") as root:
        assert (root / ROLE_FILE).read_text() == "stand-in\n"
        with Hive(root / windows_image.CONFIG / "SYSTEM") as hive:
            assert not hive.has("ControlSet001\\Services\\storahci\\StartOverride")
            assert hive.number("ControlSet001\\Services\\viostor", "Start") == 0
            served = read_served(hive, ["PCI\\VEN_1AF4&DEV_1042"])
            assert list(served.values()) == [("viostor",)]
        (package,) = (root / PACKAGES).iterdir()
        assert (package / "viostor.inf").is_file()
    esp = command("mdir", "-b", "-i", f"{disk}@@{ESP_AT}", "::EFI/Boot")
    assert "bootx64.efi" in esp.lower()
    checks = read_checks(run({"task": "check"})["checks"])
    assert [(one.filesystem, one.state) for one in checks] == [
        ("vfat", VolumeState.CLEAN),
        ("ntfs", VolumeState.CLEAN),
    ], checks
