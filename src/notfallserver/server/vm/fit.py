"""Virtual hardware that fits a primary's image. Pure.

The hardware is adapted first, the image second: firmware, MAC addresses, SMBIOS identity, sector
size and number of disks stay; controller and network card are the ones whose driver the image
already uses, where QEMU has them. What then still differs is named by the ``linux_driver`` of each
disk and card in the result, for the adaptation of the image.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from notfallserver.server.vm.spec import (
    Accelerator,
    Controller,
    NicModel,
    Smbios,
    Uefi,
    VmDisk,
    VmNic,
    VmSpec,
)
from notfallserver.server.vm.windows import Version, card_for, controller_for
from notfallserver.wire.cards import real_cards
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine, Nic

_CONTROLLERS = {
    "virtio_blk": Controller.VIRTIO,
    "virtio_scsi": Controller.SCSI,
    "nvme": Controller.NVME,
    "ahci": Controller.SATA,
    "ata_piix": Controller.IDE,
    "vmw_pvscsi": Controller.PVSCSI,
    "mptsas": Controller.MPTSAS,
}
_CARDS = {
    "virtio_net": NicModel.VIRTIO,
    "e1000e": NicModel.E1000E,
    "e1000": NicModel.E1000,
    "8139cp": NicModel.RTL8139,
    "8139too": NicModel.RTL8139,
    "vmxnet3": NicModel.VMXNET3,
}
_LIMITS = {Controller.IDE: 4, Controller.MPTSAS: 8}
"""Most disks of a controller that has no second one in QEMU."""
_BIOS_ONLY = (Controller.MPTSAS, Controller.PVSCSI)
"""QEMU's UEFI firmware finds no disk at these (Debian 12's ovmf)."""
_ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
_STEP = 64 << 20
_DEFAULT_MEMORY = 2 << 30


def fit(
    machine: Machine,
    images: Sequence[Path],
    *,
    name: str,
    bridge: str,
    accelerator: Accelerator,
    uefi: Uefi | None = None,
    cpu_limit: int,
    memory_limit: int,
    cpu: str = "",
    serial_log: Path | None = None,
    localtime: bool = False,
) -> VmSpec:
    """The stand-in of ``machine`` on ``images`` (one raw file for each of its disks, in order).

    ``memory_limit`` in bytes and ``cpu_limit`` are what the host gives away at most. ``uefi``
    (see ``find_uefi``) must be given for a machine that boots by UEFI and is ignored otherwise.
    ``localtime``: its clock shows local time, as Windows wants it.
    """
    if len(images) != len(machine.disks):
        raise NotfallError(
            "disks-differ",
            f"The version has {len(images)} images, the machine {len(machine.disks)} disks.",
            "Replicate the primary again.",
        )
    if machine.firmware == "uefi" and uefi is None:
        raise NotfallError(
            "no-uefi-firmware",
            "The machine boots by UEFI, and no firmware was given.",
            "Install the package 'ovmf'.",
        )
    drivers = Counter(disk.driver for disk in machine.disks)
    uefi = uefi if machine.firmware == "uefi" else None
    version = machine.windows
    controllers = [
        _possible(_controller(disk, version), drivers[disk.driver], disk.sector, uefi)
        for disk in machine.disks
    ]
    first = boot_disk(machine)
    return VmSpec(
        name=name,
        title=_plain(machine.hostname),
        memory=fitting_memory(machine, memory_limit),
        cpus=max(1, min(machine.cpus, cpu_limit)),
        disks=tuple(
            VmDisk(
                path=image,
                controller=controller,
                serial=re.sub(r"[^A-Za-z0-9_.+-]", "", disk.serial),
                boot=_boot_place(index, first),
                sector=disk.sector,
            )
            for index, (disk, image, controller) in enumerate(
                zip(machine.disks, images, controllers, strict=True)
            )
        ),
        nics=tuple(
            VmNic(nic.mac.lower(), bridge, _card(nic, version)) for nic in real_cards(machine)
        ),
        accelerator=accelerator,
        cpu=cpu,
        # IDE exists only in the older chipset.
        chipset="pc" if Controller.IDE in controllers else "q35",
        uefi=uefi,
        smbios=Smbios(
            uuid=_uuid(machine.smbios_uuid),
            serial=_plain(machine.smbios_serial),
            manufacturer=_plain(machine.vendor),
            product=_plain(machine.product),
        ),
        serial_log=serial_log,
        vnc=True,
        localtime=localtime,
    )


def _controller(disk: Disk, windows: Version) -> Controller:
    """AHCI where the original's controller isn't emulated: every kernel has its driver."""
    if any(windows):
        return controller_for(disk.driver, windows)
    return _CONTROLLERS.get(disk.driver, Controller.SATA)


def _card(nic: Nic, windows: Version) -> NicModel:
    if any(windows):
        return card_for(nic.driver, windows)
    return _CARDS.get(nic.driver, NicModel.E1000E)


def _possible(fitting: Controller, siblings: int, sector: int, uefi: Uefi | None) -> Controller:
    """The same, unless QEMU can't do it.

    AHCI and IDE disks always have sectors of 512 bytes; others need a controller that can more.
    """
    if uefi is not None and fitting in _BIOS_ONLY:
        fitting = Controller.SATA
    if siblings > _LIMITS.get(fitting, siblings):
        fitting = Controller.SATA
    if sector != 512 and fitting in (Controller.SATA, Controller.IDE):
        return Controller.SCSI
    return fitting


def boot_disk(machine: Machine) -> int:
    """The disk the firmware must start from; the first one when nothing tells."""
    for index, disk in enumerate(machine.disks):
        mounts = {one.mountpoint for one in disk.partitions}
        kinds = {one.kind.lower() for one in disk.partitions}
        if machine.firmware == "uefi" and (mounts & {"/boot/efi", "/efi"} or _ESP in kinds):
            return index
    for wanted in ("/boot", "/"):
        for index, disk in enumerate(machine.disks):
            if any(one.mountpoint == wanted for one in disk.partitions):
                return index
    return 0


def _boot_place(index: int, first: int) -> int:
    if index == first:
        return 1
    return index + 2 if index < first else index + 1


def fitting_memory(machine: Machine, limit: int) -> int:
    """In bytes. Rounded up: a kernel reports a little less than the machine has."""
    whole = -(-(machine.memory or _DEFAULT_MEMORY) // _STEP) * _STEP
    return max(_STEP, min(whole, limit // _STEP * _STEP))


def _plain(text: str) -> str:
    """What may stand in XML and in SMBIOS."""
    return "".join(one for one in text if " " <= one <= "~").strip()


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        return ""
