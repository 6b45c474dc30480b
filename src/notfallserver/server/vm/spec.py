"""What a virtual machine shall be: frozen, complete, free of libvirt.

Sizes are bytes. A spec with an illegal value cannot be made; so what reads a spec need not check.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from uuid import NAMESPACE_OID, UUID, uuid5

from notfallserver.wire.errors import NotfallError

# For emulated machines whose system is known to need no more. Emulated vector instructions cost
# more than they save: OpenSSL's SHA-256 makes 70 MB/s on this model and 19 MB/s on "max", where it
# takes its ways for AVX2 (QEMU 7.2, OpenSSL 3.0).
EMULATED_CPU = "qemu64"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


class Controller(StrEnum):
    """How a disk is attached; each is served by exactly one driver of the guest's kernel."""

    VIRTIO = "virtio"
    SATA = "sata"
    IDE = "ide"
    NVME = "nvme"
    SCSI = "scsi"  # virtio-scsi
    PVSCSI = "pvscsi"  # VMware's
    MPTSAS = "mptsas"  # LSI SAS1068
    CDROM = "cdrom"  # an ISO in a SATA drive

    @property
    def linux_driver(self) -> str:
        """The kernel module an image needs to boot from such a disk."""
        return _DISK_DRIVERS[self]


_DISK_DRIVERS = {
    Controller.VIRTIO: "virtio_blk",
    Controller.SATA: "ahci",
    Controller.IDE: "ata_piix",
    Controller.NVME: "nvme",
    Controller.SCSI: "virtio_scsi",
    Controller.PVSCSI: "vmw_pvscsi",
    Controller.MPTSAS: "mptsas",
    Controller.CDROM: "ahci",
}


class NicModel(StrEnum):
    """The network card that the guest sees."""

    VIRTIO = "virtio"
    E1000E = "e1000e"
    E1000 = "e1000"
    RTL8139 = "rtl8139"
    VMXNET3 = "vmxnet3"

    @property
    def linux_driver(self) -> str:
        return _NIC_DRIVERS[self]


_NIC_DRIVERS = {
    NicModel.VIRTIO: "virtio_net",
    NicModel.E1000E: "e1000e",
    NicModel.E1000: "e1000",
    NicModel.RTL8139: "8139cp",
    NicModel.VMXNET3: "vmxnet3",
}


class Accelerator(StrEnum):
    KVM = "kvm"
    TCG = "tcg"  # emulation: slow, works everywhere


@dataclass(frozen=True)
class VmDisk:
    """One raw file as a disk; ``boot`` is its place in the boot order, 0 = never tried."""

    path: Path
    controller: Controller = Controller.VIRTIO
    serial: str = ""
    readonly: bool = False
    boot: int = 0
    sector: int = 512  # logical sector size
    cache: str = "none"  # see describe.py for the reason; "writeback" where O_DIRECT fails


@dataclass(frozen=True)
class VmNic:
    """One network card on a bridge of the host, or on ``cable``: a tap that is there already and
    leads elsewhere."""

    mac: str
    bridge: str
    model: NicModel = NicModel.VIRTIO
    cable: str = ""

    def __post_init__(self) -> None:
        if not _MAC.fullmatch(self.mac):
            raise _bad(f"'{self.mac}' is no MAC address")


@dataclass(frozen=True)
class Channel:
    """A virtio-serial port: ``/dev/virtio-ports/NAME`` in the guest, ``path`` on the host.

    With ``listen`` the host side is a unix socket that QEMU listens on; without, a file that
    receives what the guest writes (emptied at every start, at most 2 MiB because virtlogd rotates).
    """

    name: str
    path: Path
    listen: bool = False


@dataclass(frozen=True)
class DirectKernel:
    """A kernel that QEMU loads itself; no boot loader takes part."""

    kernel: Path
    initrd: Path
    cmdline: str = ""


@dataclass(frozen=True)
class Uefi:
    """UEFI firmware: code and template belong to the host, ``nvram`` to this machine alone.

    ``nvram`` is made from the template at the first start.
    """

    code: Path
    template: Path
    nvram: Path


@dataclass(frozen=True)
class Smbios:
    """What the machine says it is; licences and management tools look at this."""

    uuid: str = ""
    serial: str = ""
    manufacturer: str = ""
    product: str = ""


@dataclass(frozen=True)
class VmSpec:
    """A whole machine. ``uefi`` None means BIOS; ``chipset`` is ``q35`` or ``pc``.

    ``cpu`` is a CPU model of QEMU, ``host-model``, ``host-passthrough`` or ``max``; empty picks
    host-model with KVM and max with TCG. ``restarts`` says that the machine comes back after a
    reboot or crash of the guest; without it both end the machine.
    """

    name: str
    memory: int
    cpus: int = 1
    disks: tuple[VmDisk, ...] = ()
    nics: tuple[VmNic, ...] = ()
    accelerator: Accelerator = Accelerator.KVM
    cpu: str = ""
    chipset: str = "q35"
    uefi: Uefi | None = None
    kernel: DirectKernel | None = None
    smbios: Smbios | None = None
    serial_log: Path | None = None
    channels: tuple[Channel, ...] = ()
    vnc: bool = False
    localtime: bool = False
    restarts: bool = True
    balloon: bool = False
    title: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise _bad(f"'{self.name}' cannot be the name of a machine")
        if self.memory < 16 << 20 or self.cpus < 1:
            raise _bad("it needs at least one CPU and 16 MiB of memory")
        if self.chipset not in ("q35", "pc"):
            raise _bad(f"chipset '{self.chipset}' is not known")
        paths = [disk.path for disk in self.disks] + [one.path for one in self.channels]
        for path in paths:
            if not path.is_absolute():
                raise _bad(f"the path '{path}' is not absolute")
        if len(set(paths)) != len(paths):
            raise _bad("two of its disks or channels are the same file")

    @property
    def uuid(self) -> UUID:
        """The hypervisor's identity of this machine, the same for the same name.

        Not the SMBIOS UUID: that one belongs to the primary, may be shared by several machines of
        careless vendors, and a rehearsal runs beside the stand-in.
        """
        return uuid5(NAMESPACE_OID, f"notfallserver/{self.name}")


def _bad(what: str) -> NotfallError:
    return NotfallError(
        "bad-machine", f"The virtual machine cannot be described: {what}.", "Correct the settings."
    )
