r"""How Windows names hardware: by ids such as ``PCI\VEN_8086&DEV_2822&SUBSYS_…``. Pure.

A device has several, from its very own one to that of its kind; a driver serves it that names one
of them.
"""

from __future__ import annotations

from typing import Dict, Tuple


def pci_ids(vendor: int, device: int, subsystem: int, revision: int, kind: int) -> Tuple[str, ...]:
    """``subsystem``: its device above its vendor, 16 bits each; ``kind``: class, subclass and
    interface as three bytes. In upper case, the closest first."""
    chip = f"VEN_{vendor:04X}&DEV_{device:04X}"
    own = f"{chip}&SUBSYS_{subsystem:08X}"
    long, short = f"CC_{kind:06X}", f"CC_{kind >> 8:04X}"
    return tuple(
        f"PCI\\{one}"
        for one in (
            *(f"{own}&REV_{revision:02X}", own, f"{chip}&{long}", f"{chip}&{short}"),
            *(f"{chip}&REV_{revision:02X}", chip),
            *(f"VEN_{vendor:04X}&{long}", f"VEN_{vendor:04X}&{short}", f"VEN_{vendor:04X}"),
            *(long, short),
        )
    )


VIRTUAL: Dict[str, Tuple[str, ...]] = {
    "virtio_blk": (
        *pci_ids(0x1AF4, 0x1001, 0x00021AF4, 0, 0x010000),
        *pci_ids(0x1AF4, 0x1042, 0x11001AF4, 1, 0x010000),
    ),
    "virtio_scsi": (
        *pci_ids(0x1AF4, 0x1004, 0x00081AF4, 0, 0x010000),
        *pci_ids(0x1AF4, 0x1048, 0x11001AF4, 1, 0x010000),
    ),
    "virtio_net": (
        *pci_ids(0x1AF4, 0x1000, 0x00011AF4, 0, 0x020000),
        *pci_ids(0x1AF4, 0x1041, 0x11001AF4, 1, 0x020000),
    ),
    "vmw_pvscsi": pci_ids(0x15AD, 0x07C0, 0x07C015AD, 2, 0x010700),
    "mptsas": pci_ids(0x1000, 0x0054, 0x80001000, 0, 0x010000),
    "vmxnet3": pci_ids(0x15AD, 0x07B0, 0x07B015AD, 1, 0x020000),
    "e1000": pci_ids(0x8086, 0x100E, 0x11001AF4, 3, 0x020000),
    "e1000e": pci_ids(0x8086, 0x10D3, 0x00008086, 0, 0x020000),
    "8139cp": pci_ids(0x10EC, 0x8139, 0x11001AF4, 0x20, 0x020000),
}
"""What QEMU's devices are, by Linux' driver of them; of virtio the old and the new kind."""


def virtual_ids(driver: str) -> Tuple[str, ...]:
    """Empty for a device whose driver every Windows has."""
    return VIRTUAL.get(driver.replace("-", "_"), ())
