"""Virtual machines: what they shall be (pure), and the hypervisor that runs them.

``spec`` holds the frozen description, ``fit`` makes one that suits a primary's image, ``describe``
turns it into libvirt's XML, ``firmware`` finds UEFI firmware on this host. ``hypervisor`` is the
interface everything else uses, ``libvirt`` its implementation.
"""

from notfallserver.server.vm.describe import domain_xml
from notfallserver.server.vm.firmware import find_uefi
from notfallserver.server.vm.fit import fit
from notfallserver.server.vm.hypervisor import (
    Hypervisor,
    HypervisorInfo,
    MachineState,
    standing_still,
)
from notfallserver.server.vm.spec import (
    Accelerator,
    Channel,
    Controller,
    DirectKernel,
    NicModel,
    Smbios,
    Uefi,
    VmDisk,
    VmNic,
    VmSpec,
)

__all__ = [
    "Accelerator",
    "Channel",
    "Controller",
    "DirectKernel",
    "Hypervisor",
    "HypervisorInfo",
    "MachineState",
    "NicModel",
    "Smbios",
    "Uefi",
    "VmDisk",
    "VmNic",
    "VmSpec",
    "domain_xml",
    "find_uefi",
    "fit",
    "standing_still",
]
