r"""Makes a driver known to a Windows that is not running, so that it finds its disk with it. Pure.

Since 8 the kernel asks ``DriverDatabase`` at the root of SYSTEM: ``DeviceIds`` leads from a
hardware id to an INF, ``DriverInfFiles`` from that to a package, ``DriverPackages`` from the id in
the package to a way of installing and so to the service. virt-v2v does it so in production, with
names of its own for INF and package (libguestfs-common, ``mlcustomize/inject_virtio_win.ml``), as
does lxc's distrobuilder (``windows/driver_viostor.go``), which also sets the driver's parameters.
Keys and values were compared with those of a real Windows 10, its own drivers' and makers'. Of the
package only as much is written as the first start needs. Its version is left at zero, so that the
whole package, which the agent installs then, is newer and takes its place.

Before 8 it is ``CriticalDeviceDatabase``: hardware id -> service and class.
"""

from __future__ import annotations

import uuid
from typing import List, Tuple

from notfallserver.guest.windows.facts import BOOT, Generation, WindowsSystem
from notfallserver.guest.windows.packages import DriverService
from notfallserver.guest.windows.registry import (
    BINARY,
    EXPANDED,
    SYSTEM,
    DeleteKey,
    RegistryStep,
    SetValue,
    Value,
    number,
    text,
    texts,
)
from notfallserver.guest.windows.supplied import Chosen

DATABASE = "DriverDatabase"
CONFIGURATION = "Notfallserver"
GROUP = "SCSI miniport"
PCI = "PCI\\"
_FITS = Value(BINARY, b"\x01\xff\x00\x00")
"""That an id is one of the INF's own ones; all of a real hive's PCI ids but one have it."""


def stage_driver(
    system: WindowsSystem, chosen: Chosen, service: DriverService
) -> Tuple[RegistryStep, ...]:
    """All that makes ``service``, of ``chosen``, start with Windows; its file must lie in
    System32/drivers."""
    told = f"{chosen.package.title} serves the disk controller"
    steps = _service(system, service, told)
    if system.generation is Generation.EIGHT:
        steps += _in_database(system, chosen, service, told)
    else:
        steps += _as_critical(system, chosen, service, told)
    return tuple(steps)


def _service(system: WindowsSystem, service: DriverService, told: str) -> List[RegistryStep]:
    key = f"{system.control_set}\\Services\\{service.name}"
    steps: List[RegistryStep] = [
        SetValue(SYSTEM, key, name, value, told)
        for name, value in (
            ("Type", number(1)),
            ("Start", number(BOOT)),
            ("ErrorControl", number(service.error_control)),
            ("Group", text(service.group or GROUP)),
            ("ImagePath", text(f"system32\\drivers\\{service.file}", EXPANDED)),
        )
    ]
    for one in service.parameters:
        below = f"{key}\\{one.key}" if one.key else key
        steps.append(SetValue(SYSTEM, below, one.name, one.value, told))
    known = system.services.get(service.name.lower())
    if known is not None and known.overridden:
        steps.append(DeleteKey(SYSTEM, f"{key}\\StartOverride", told))
    return steps


def _in_database(
    system: WindowsSystem, chosen: Chosen, service: DriverService, told: str
) -> List[RegistryStep]:
    inf = f"notfall_{chosen.package.name}.inf"
    label = f"{inf}_{system.architecture}_{chosen.mark[:16]:0<16}"
    package = f"{DATABASE}\\DriverPackages\\{label}"
    inf_key = f"{DATABASE}\\DriverInfFiles\\{inf}"
    way = f"{package}\\Configurations\\{CONFIGURATION}"
    steps: List[RegistryStep] = [
        SetValue(SYSTEM, package, "Version", _version(chosen.package.description.class_id), told),
        SetValue(SYSTEM, way, "ConfigFlags", number(0), told),
        SetValue(SYSTEM, way, "Service", text(service.name), told),
        SetValue(SYSTEM, inf_key, "", texts([label]), told),
        SetValue(SYSTEM, inf_key, "Active", text(label), told),
        SetValue(SYSTEM, inf_key, "Configurations", texts([CONFIGURATION]), told),
    ]
    for one in chosen.ids:
        if one.startswith(PCI):
            device = f"{package}\\Descriptors\\{one}"
            steps.append(SetValue(SYSTEM, device, "Configuration", text(CONFIGURATION), told))
            steps.append(SetValue(SYSTEM, f"{DATABASE}\\DeviceIds\\{one}", inf, _FITS, told))
    return steps


def _version(class_id: str) -> Value:
    """A head as all packages of a real hive have it, the class, then date and number: none."""
    head = bytes.fromhex("00ff090000000000")
    return Value(BINARY, head + uuid.UUID(class_id).bytes_le + bytes(24))


def _as_critical(
    system: WindowsSystem, chosen: Chosen, service: DriverService, told: str
) -> List[RegistryStep]:
    steps: List[RegistryStep] = []
    for one in chosen.ids:
        if one.startswith(PCI):
            device = one.replace("\\", "#")
            key = f"{system.control_set}\\Control\\CriticalDeviceDatabase\\{device}"
            class_id = text(chosen.package.description.class_id)
            steps.append(SetValue(SYSTEM, key, "ClassGUID", class_id, told))
            steps.append(SetValue(SYSTEM, key, "Service", text(service.name), told))
    return steps
