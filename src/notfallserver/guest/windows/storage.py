"""Which drivers Windows must start with to find its disk. Pure.

A driver that Windows has but does not start with is the usual reason why it stops with
INACCESSIBLE_BOOT_DEVICE on another controller. All drivers of the usual controllers are made to
start, whatever the hardware is now: the next machine may be another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from notfallserver.guest.windows.devices import virtual_ids
from notfallserver.guest.windows.facts import BOOT, DISABLED, Generation, WindowsSystem
from notfallserver.guest.windows.packages import HDC, SCSI, DriverService
from notfallserver.guest.windows.registry import (
    EXPANDED,
    SYSTEM,
    DeleteKey,
    RegistryStep,
    SetValue,
    number,
    text,
)
from notfallserver.guest.windows.staged import stage_driver
from notfallserver.guest.windows.supplied import Chosen, source_of
from notfallserver.wire.errors import NotfallError

IDE = ("atapi", "intelide", "pciide")
USUAL: Dict[Generation, Tuple[str, ...]] = {
    Generation.XP: IDE,
    Generation.VISTA: ("msahci", *IDE),
    Generation.EIGHT: ("storahci", *IDE, "stornvme"),
}
"""Of each generation's own drivers; those that the image lacks are left out."""

CATALOGUES = "Windows/System32/CatRoot/{F750E6C3-38EE-11D1-85E5-00C04FC295EE}"
"""There Windows' loader looks for the signature of a driver that carries none."""
DISK = "{4D36E967-E325-11CE-BFC1-08002BE10318}"

CRITICAL: Tuple[Tuple[str, str, str], ...] = (
    ("Primary_IDE_Channel", "atapi", HDC),
    ("Secondary_IDE_Channel", "atapi", HDC),
    ("*PNP0600", "atapi", HDC),
    ("PCI#CC_0101", "pciide", HDC),
    ("PCI#VEN_8086&DEV_7010", "intelide", HDC),
    ("PCI#VEN_8086&DEV_7111", "intelide", HDC),
    ("GenDisk", "disk", DISK),
)
"""What XP must know to find a disk at an IDE controller: hardware, driver, class."""

GROUPS = {"intelide": "System Bus Extender", "pciide": "System Bus Extender"}
"""Those of all others is the one of disk controllers."""

VIRTIO: Dict[str, Tuple[str, ...]] = {
    "viostor": ("PCI#VEN_1AF4&DEV_1001&REV_00", "PCI#VEN_1AF4&DEV_1042&REV_01"),
    "vioscsi": ("PCI#VEN_1AF4&DEV_1004&REV_00", "PCI#VEN_1AF4&DEV_1048&REV_01"),
}
"""Hardware of drivers that the customer has installed: before 8 it is told at the start again."""

_SAS = ("lsi_sas", "lsi_sas2", "lsi_sas2i", "lsi_sas3", "lsi_sas3i")
_MEGARAID = ("megasas", "megasas2", "megasas2i", "megasas35i", "megasr", "percsas2i", "percsas3i")
SERVED_BY: Dict[str, Tuple[str, ...]] = {
    "mptsas": _SAS,
    "mpt2sas": _SAS,
    "mpt3sas": _SAS,
    "mptspi": ("lsi_scsi", "symmpi"),
    "megaraid_sas": _MEGARAID,
    "vmw_pvscsi": ("pvscsi",),
    "hv_storvsc": ("storvsc",),
    "xen_blkfront": ("xenvbd",),
    "smartpqi": ("smartpqi", "smartsamd"),
    "aacraid": ("arcsas",),
    "virtio_blk": ("viostor",),
    "virtio_scsi": ("vioscsi",),
    "nvme": ("stornvme",),
    "intel_rst": ("iastora", "iastorac", "iastorvd", "iastorv", "iastor"),
    "intel_vmd": ("iastorvd", "iavroc", "iavd"),
}
"""By Linux' driver, which names a controller: Windows' drivers, of which one will do. The last two
are AHCI and NVMe behind Intel's own: to Linux they are as all others, to Windows they are not."""

_AHCI, _NVME = ("&CC_010601", "PCI\\CC_010601"), ("&CC_010802", "PCI\\CC_010802")


@dataclass(frozen=True)
class Controller:
    """``driver`` is Linux', ``ids`` are Windows' names of it, where they are known."""

    driver: str
    ids: Tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """A key of :data:`SERVED_BY`, or Linux' driver."""
        driver = self.driver.replace("-", "_")
        if driver == "ahci" and self.ids and not _is_of(self.ids, _AHCI):
            return "intel_rst"
        if driver == "nvme" and self.ids and not _is_of(self.ids, _NVME):
            return "intel_vmd"
        return driver


def _is_of(ids: Tuple[str, ...], ends: Tuple[str, ...]) -> bool:
    return any(one.endswith(ends) for one in ids)


@dataclass(frozen=True)
class PutDriver:
    """Copy a driver that the customer gave to ``target`` in the guest."""

    source: str
    target: str
    change: str


@dataclass(frozen=True)
class Storage:
    steps: Tuple[RegistryStep, ...]
    drivers: Tuple[PutDriver, ...] = ()
    unclear: Tuple[str, ...] = ()
    """Controllers for which no driver is known to be there; a maker's own may be."""
    staged: Tuple[Chosen, ...] = ()
    """What the customer's folder gave."""


def plan_storage(
    system: WindowsSystem,
    controllers: Sequence[Controller],
    supplied: Sequence[Chosen] = (),
    virtual: bool = True,
) -> Storage:
    """``supplied``: what the customer's folder has for this Windows and hardware.

    A virtual controller without a driver is refused: another can be chosen. A real machine may have
    been the original itself, served by a driver of its maker's that nobody here knows.
    """
    usual = USUAL[system.generation]
    starting = [one for one in usual if _is_there(system, one)]
    if system.generation is Generation.XP:
        lacking = [one for one in IDE if one not in system.services]
        starting += [one for one in lacking if f"{one}.sys" in system.driver_files]
    staged: Dict[str, Tuple[Chosen, DriverService]] = {}
    unclear: List[str] = []
    for controller in controllers:
        named = _served_by(system, controller)
        there = [one for one in named or () if _is_there(system, one) or one in starting]
        known = _known(system, controller)
        starting += [one for one in (*(known or ()), *there) if one not in starting]
        # where Windows says what it takes for the very device, a name alone does not do
        if known or (there and known is None):
            continue
        given = _given(controller, supplied)
        if given is not None:
            staged.setdefault(given[1].name.lower(), given)
        elif virtual and named is not None and not there:
            raise _no_driver(system, controller.driver)
        else:
            unclear.append(controller.kind)
    steps: List[RegistryStep] = []
    for name in starting:
        if name not in staged:
            steps += _start(system, name)
    if system.generation is Generation.XP:
        steps += _critical_devices(system, CRITICAL)
        steps += _processors(system)
    if system.generation is not Generation.EIGHT:
        for name in (*starting, *staged):
            wanted = tuple((one, name, SCSI) for one in VIRTIO.get(name, ()))
            steps += _critical_devices(system, wanted)
    for chosen, service in staged.values():
        steps += stage_driver(system, chosen, service)
    return Storage(
        tuple(steps),
        tuple(put for chosen, service in staged.values() for put in _put(chosen, service)),
        tuple(dict.fromkeys(unclear)),
        tuple(chosen for chosen, _ in staged.values()),
    )


def _known(system: WindowsSystem, controller: Controller) -> Optional[List[str]]:
    """Drivers that Windows itself would take for the device, and has; None where it can't be
    told."""
    if system.generation is Generation.EIGHT:
        asked = [one for one in controller.ids if one in system.served]
        names = [name for one in asked for name in system.served[one]]
        found = [one for one in dict.fromkeys(names) if _is_there(system, one)]
        return found if asked else None
    keys = [one.replace("\\", "#").lower() for one in controller.ids]
    devices = [system.critical_devices[one] for one in keys if one in system.critical_devices]
    return [one.service for one in devices if _is_there(system, one.service)] or None


def _given(
    controller: Controller, supplied: Sequence[Chosen]
) -> Optional[Tuple[Chosen, DriverService]]:
    ids = controller.ids or virtual_ids(controller.driver)
    for one in supplied:
        if one.is_storage and one.service is not None and one.serves(ids):
            return one, one.service
    return None


def _is_there(system: WindowsSystem, name: str) -> bool:
    known = system.services.get(name)
    return bool(known and known.present)


def _served_by(system: WindowsSystem, controller: Controller) -> Optional[Tuple[str, ...]]:
    """None where nothing is known of it."""
    if controller.kind == "ahci":
        return {
            Generation.XP: (),
            Generation.VISTA: ("msahci",),
            Generation.EIGHT: ("storahci",),
        }[system.generation]
    if controller.kind in ("ata_piix", "pata_acpi", "ata_generic"):
        return IDE
    return SERVED_BY.get(controller.kind)


def _put(chosen: Chosen, service: DriverService) -> List[PutDriver]:
    package, name = chosen.package, service.file
    told = f"driver {name} from the folder of drivers copied into Windows: {package.title}"
    put = [PutDriver(source_of(package, name), f"Windows/System32/drivers/{name}", told)]
    if not chosen.signed:
        source = source_of(package, package.description.catalogue)
        told = f"catalogue of signatures of {package.title} copied into Windows"
        put.append(PutDriver(source, f"{CATALOGUES}/notfall_{package.name}.cat", told))
    return put


def _start(system: WindowsSystem, name: str) -> List[RegistryStep]:
    key = f"{system.control_set}\\Services\\{name}"
    known = system.services.get(name)
    steps: List[RegistryStep] = []
    told = f"driver {name} starts with Windows"
    if known is None:
        group = GROUPS.get(name, "SCSI miniport")
        path = text(f"system32\\drivers\\{name}.sys", EXPANDED)
        for field, value in (
            ("Type", number(1)),
            ("ErrorControl", number(1)),
            ("Group", text(group)),
            ("ImagePath", path),
        ):
            steps.append(SetValue(SYSTEM, key, field, value, told))
    if known is None or known.start != BOOT:
        steps.append(SetValue(SYSTEM, key, "Start", number(BOOT), told))
    if known is not None and known.overridden:
        change = f"driver {name} starts with Windows on any machine"
        steps.append(DeleteKey(SYSTEM, f"{key}\\StartOverride", change))
    return steps


def _critical_devices(
    system: WindowsSystem, wanted: Tuple[Tuple[str, str, str], ...]
) -> List[RegistryStep]:
    steps: List[RegistryStep] = []
    for device, service, class_id in wanted:
        known = system.critical_devices.get(device.lower())
        if known and (known.service, known.class_id) == (service, class_id.lower()):
            continue
        key = f"{system.control_set}\\Control\\CriticalDeviceDatabase\\{device}"
        told = f"{device} is served by {service}"
        steps.append(SetValue(SYSTEM, key, "ClassGUID", text(class_id), told))
        steps.append(SetValue(SYSTEM, key, "Service", text(service), told))
    return steps


def _processors(system: WindowsSystem) -> List[RegistryStep]:
    """XP's drivers for one maker's processors stop the start on another's."""
    return [
        SetValue(
            SYSTEM,
            f"{system.control_set}\\Services\\{name}",
            "Start",
            number(DISABLED),
            f"driver {name} for the original's processor is off",
        )
        for name in ("intelppm", "processr")
        if name in system.services and system.services[name].start != DISABLED
    ]


def _no_driver(system: WindowsSystem, controller: str) -> NotfallError:
    return NotfallError(
        "driver-missing",
        f"{system.name} has no driver for the new hardware's disk controller ('{controller}').",
        "Choose another controller (since Vista Windows knows SATA, before that IDE), or give the "
        "emergency server the maker's driver with 'notfall drivers add FOLDER', or install it on "
        "the primary, and replicate again.",
    )
