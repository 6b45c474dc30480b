"""Virtual hardware that fits a captured machine, and its domain XML."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from notfallserver.server.vm import (
    Accelerator,
    Controller,
    NicModel,
    Uefi,
    VmDisk,
    VmNic,
    VmSpec,
    domain_xml,
    find_uefi,
    fit,
)
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine, Nic, Partition

MACHINE = Machine(
    hostname="db1",
    firmware="bios",
    smbios_uuid="4C4C4544-0042-3510-8052-B4C04F4A3032",
    smbios_serial="B5R\x01J02",
    vendor="Dell Inc.",
    product="PowerEdge <R650>",
    cpus=16,
    memory=33_000_000_000,
    disks=[
        Disk("sda", 1 << 40, driver="megaraid_sas", serial="00 11/22"),
        Disk("sdb", 1 << 34, driver="virtio_scsi", partitions=[Partition(1, 0, 1, mountpoint="/")]),
    ],
    nics=[
        Nic("eno1", "B0:7B:25:00:00:01", "igb"),
        Nic("ens3", "52:54:00:00:00:02", "virtio_net"),
        Nic("br0", "b0:7b:25:00:00:01", "bridge"),
        Nic("vlan7", "b0:7b:25:00:00:01", ""),
    ],
)
IMAGES = [Path("/pool/disk0.raw"), Path("/pool/disk1.raw")]


def fitted(machine: Machine, images: list[Path] | None = None, uefi: Uefi | None = None) -> VmSpec:
    return fit(
        machine,
        IMAGES[: len(machine.disks)] if images is None else images,
        name="standin-1",
        bridge="br0",
        accelerator=Accelerator.KVM,
        uefi=uefi,
        cpu_limit=4,
        memory_limit=8 << 30,
    )


def with_disks(
    driver: str, count: int = 1, sector: int = 512, uefi: Uefi | None = None
) -> list[Controller]:
    disks = [Disk(f"d{n}", 1 << 30, driver=driver, sector=sector) for n in range(count)]
    images = [Path(f"/pool/{n}.raw") for n in range(count)]
    machine = replace(MACHINE, disks=disks, firmware="uefi" if uefi else "bios")
    return [one.controller for one in fitted(machine, images, uefi).disks]


def test_keeps_what_identifies_the_machine() -> None:
    spec = fitted(MACHINE)
    assert [(nic.mac, nic.model) for nic in spec.nics] == [
        ("b0:7b:25:00:00:01", NicModel.E1000E),
        ("52:54:00:00:00:02", NicModel.VIRTIO),
    ]
    assert (spec.cpus, spec.memory) == (4, 8 << 30)
    assert spec.smbios is not None
    assert spec.smbios.uuid == MACHINE.smbios_uuid.lower()
    assert spec.smbios.serial == "B5RJ02"
    assert [disk.boot for disk in spec.disks] == [2, 1]  # the one that holds the root comes first
    assert spec.disks[0].serial == "001122"
    assert fitted(replace(MACHINE, smbios_uuid="Not Settable")).smbios.uuid == ""  # type: ignore[union-attr]


def test_picks_the_controller_whose_driver_the_image_has() -> None:
    for controller in Controller:
        if controller is not Controller.CDROM:
            assert with_disks(controller.linux_driver) == [controller]
    assert with_disks("megaraid_sas") == [Controller.SATA]
    firmware = Uefi(Path("/code"), Path("/template"), Path("/nvram"))
    assert with_disks("mptsas", uefi=firmware) == [Controller.SATA]
    assert with_disks("vmw_pvscsi", uefi=firmware) == [Controller.SATA]
    assert with_disks("mptsas", 9) == [Controller.SATA] * 9
    assert with_disks("ata_piix", 4) == [Controller.IDE] * 4
    assert with_disks("ata_piix", 5) == [Controller.SATA] * 5
    assert with_disks("ahci", sector=4096) == [Controller.SCSI]
    assert with_disks("nvme", sector=4096) == [Controller.NVME]


def test_uefi_needs_firmware_and_starts_from_the_system_partition() -> None:
    esp = Partition(1, 1 << 20, 1 << 28, kind="C12A7328-F81F-11D2-BA4B-00A0C93EC93B")
    root = Partition(1, 1 << 20, 1 << 28, mountpoint="/")
    disks = [Disk("a", 1, partitions=[root]), Disk("b", 1, partitions=[esp])]
    machine = replace(MACHINE, firmware="uefi", disks=disks)
    with pytest.raises(NotfallError, match="ovmf"):
        fitted(machine)
    spec = fitted(machine, uefi=Uefi(Path("/code"), Path("/template"), Path("/nvram")))
    assert [disk.boot for disk in spec.disks] == [2, 1]
    with pytest.raises(NotfallError) as caught:
        fitted(machine, IMAGES[:1])
    assert caught.value.code == "disks-differ"


def test_domain_xml_says_it_all() -> None:
    domain = ET.fromstring(domain_xml(fitted(MACHINE)))  # noqa: S314 -- our own
    assert domain.get("type") == "kvm"
    assert domain.findtext("sysinfo/system/entry[@name='product']") == "PowerEdge <R650>"
    assert domain.find("cpu").get("mode") == "host-model"  # type: ignore[union-attr]
    drivers = [one.attrib for one in domain.findall("devices/disk/driver")]
    assert all(one["cache"] == "none" and one["io"] == "threads" for one in drivers)
    assert len({one.get("dev") for one in domain.findall("devices/disk/target")}) == 2
    graphics = domain.find("devices/graphics/listen")
    assert graphics is not None and graphics.get("type") == "socket"
    # The SMBIOS UUID is the primary's, the domain's UUID is not.
    assert domain.findtext("uuid") != MACHINE.smbios_uuid.lower()
    assert MACHINE.smbios_uuid.lower() in domain_xml(fitted(MACHINE))


def test_no_illegal_machine_can_be_made() -> None:
    disk = VmDisk(Path("/a"))
    for wrong in (
        {"name": "../etc"},
        {"memory": 0},
        {"cpus": 0},
        {"chipset": "microvm"},
        {"disks": (VmDisk(Path("a")),)},
        {"disks": (disk, disk)},
    ):
        with pytest.raises(NotfallError):
            VmSpec(**{"name": "a", "memory": 1 << 30, **wrong})  # type: ignore[arg-type]
    with pytest.raises(NotfallError):
        VmNic("52:54:00:00:00:zz", "br0")


def test_firmware_without_secure_boot_is_found(tmp_path: Path) -> None:
    code, template = tmp_path / "code.fd", tmp_path / "vars.fd"
    code.touch()
    template.touch()
    pattern = """{"interface-types": ["uefi"], "mapping": {"device": "flash",
        "executable": {"filename": "%s", "format": "raw"},
        "nvram-template": {"filename": "%s", "format": "raw"}},
        "targets": [{"architecture": "x86_64"}], "features": [%s]}"""
    (tmp_path / "10-broken.json").write_text("{")
    (tmp_path / "20-secure.json").write_text(pattern % (code, template, '"secure-boot"'))
    with pytest.raises(NotfallError, match="ovmf"):
        find_uefi(tmp_path / "nvram", [tmp_path])
    (tmp_path / "30-plain.json").write_text(pattern % (code, template, ""))
    assert find_uefi(tmp_path / "nvram", [tmp_path]) == Uefi(code, template, tmp_path / "nvram")
