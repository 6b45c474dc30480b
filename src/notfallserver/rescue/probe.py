"""What this machine is: firmware, memory, disks with what is on them, network cards.

Reads sysfs and lets blkid look at the disks; nothing is opened for writing.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import List

from notfallserver.guest.shell import run
from notfallserver.guest.volumes import list_volumes, table_of
from notfallserver.wire.facts import Disk, Machine, Nic, Partition

SYS_BLOCK = Path("/sys/block")
SYS_NET = Path("/sys/class/net")
DMI = Path("/sys/class/dmi/id")
NOT_DISKS = ("loop", "ram", "zram", "sr", "fd", "md", "dm-", "nbd")


def probe_machine(medium: str = "") -> Machine:
    """Everything; ``medium`` is the device we were started from, which is no disk to recover to."""
    return Machine(
        hostname="notfall-rescue",
        system="Notfallserver rescue system",
        kernel=os.uname().release,
        firmware="uefi" if Path("/sys/firmware/efi").is_dir() else "bios",
        smbios_uuid=_text(DMI / "product_uuid"),
        smbios_serial=_text(DMI / "product_serial"),
        vendor=_text(DMI / "sys_vendor"),
        product=_text(DMI / "product_name"),
        cpus=os.cpu_count() or 1,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        disks=probe_disks(medium),
        nics=probe_nics(),
    )


def probe_disks(medium: str = "") -> List[Disk]:
    """Whole disks in the order of their names."""
    bases = [
        one
        for one in SYS_BLOCK.iterdir()
        if not one.name.startswith(NOT_DISKS) and f"/dev/{one.name}" != medium
    ]
    bases.sort(key=lambda one: (len(one.name), one.name))
    return [_disk(one) for one in bases if _number(one / "size") and not _number(one / "ro")]


def bare_disk(name: str) -> Disk:
    """Identity of one disk without looking at its content."""
    base = SYS_BLOCK / name
    return Disk(
        name=name,
        size=_number(base / "size") * 512,
        sector=_number(base / "queue/logical_block_size") or 512,
        serial=_serial(base),
        model=_text(base / "device/model") or _text(base / "device/vendor"),
        driver=disk_driver(base),
    )


def disk_driver(base: Path) -> str:
    """The driver of the controller: the nearest device above that is on a real bus."""
    here = (base / "device").resolve()
    while here != here.parent:
        bus, driver = here / "subsystem", here / "driver"
        if driver.exists() and bus.resolve().name not in ("scsi", "block", "nvme"):
            name = driver.resolve().name
            module = driver / "module"
            return module.resolve().name if module.exists() else name.replace("-", "_")
        here = here.parent
    # with native multipath an NVMe disk hangs below no PCI device
    return "nvme" if base.name.startswith("nvme") else ""


def probe_nics() -> List[Nic]:
    """Cards on a real bus, those with an address first: they are plugged in."""
    nics: List[Nic] = []
    for base in sorted(SYS_NET.iterdir()):
        if not (base / "device").exists():
            continue
        driver = base / "device/driver"
        module = driver / "module"
        found = module if module.exists() else driver
        mac = _text(base / "address").lower()
        nics.append(Nic(base.name, mac, found.resolve().name if found.exists() else ""))
    told = json.loads(run(["ip", "-j", "address"]).out or "[]")
    addresses = {
        link.get("ifname"): [
            f"{one['local']}/{one['prefixlen']}"
            for one in link.get("addr_info", [])
            if "local" in one
        ]
        for link in told
    }
    nics = [replace(nic, addresses=addresses.get(nic.name, [])) for nic in nics]
    return sorted(nics, key=lambda nic: not any(not _is_local(one) for one in nic.addresses))


def _is_local(address: str) -> bool:
    return address.lower().startswith("fe80:")


def _disk(base: Path) -> Disk:
    disk = bare_disk(base.name)
    device = f"/dev/{base.name}"
    parts = []
    for volume in list_volumes([device]):
        if volume.partition == 0 and not volume.filesystem:
            continue
        start = _number(SYS_BLOCK / base.name / Path(volume.device).name / "start") * 512
        parts.append(
            Partition(
                number=volume.partition,
                start=start,
                size=volume.size,
                kind=volume.kind,
                filesystem=volume.filesystem,
                uuid=volume.uuid,
                label=volume.label,
                part_uuid=volume.part_uuid,
            )
        )
    return replace(disk, table=table_of(device), partitions=parts)


def _serial(base: Path) -> str:
    for name in ("serial", "device/serial"):
        told = _text(base / name)
        if told:
            return told
    try:
        page = (base / "device/vpd_pg80").read_bytes()  # SCSI unit serial number page
    except OSError:
        return ""
    return page[4:].decode("ascii", "replace").strip("\0 ")


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()[:200]
    except OSError:
        return ""


def _number(path: Path) -> int:
    told = _text(path)
    return int(told) if told.isdigit() else 0
