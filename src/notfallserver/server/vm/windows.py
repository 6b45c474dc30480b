"""Virtual hardware that a Windows has drivers for. Pure.

Controllers and cards on which the machine has run stay, where QEMU has them: their drivers are in
the image. All others become what Windows brings the driver of. Which Windows brings which driver:
``guest/windows/plan.py`` and ``storage.py``, which prepare the image for it.
"""

from __future__ import annotations

from notfallserver.server.vm.spec import Controller, NicModel

Version = tuple[int, int]
"""As Windows counts: 5.1 is XP, 6.1 is 7 and Server 2008 R2, 6.2 is 8 and Server 2012."""

VISTA: Version = (6, 0)
EIGHT: Version = (6, 2)

_CONTROLLERS = {
    "viostor": Controller.VIRTIO,
    "vioscsi": Controller.SCSI,
    "stornvme": Controller.NVME,
    "pvscsi": Controller.PVSCSI,
}
_CARDS = {
    "netkvm": NicModel.VIRTIO,
    "vmxnet3ndis6": NicModel.VMXNET3,
}


def controller_for(driver: str, version: Version) -> Controller:
    """``driver`` is Windows' name of the one that served the disk."""
    if driver.lower() in _CONTROLLERS:
        return _CONTROLLERS[driver.lower()]
    return Controller.SATA if version >= VISTA else Controller.IDE


def card_for(driver: str, version: Version) -> NicModel:
    """``driver`` is Windows' name of the one that served the card."""
    if driver.lower() in _CARDS:
        return _CARDS[driver.lower()]
    if version >= EIGHT:
        return NicModel.E1000E
    return NicModel.E1000 if version >= VISTA else NicModel.RTL8139
