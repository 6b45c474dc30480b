"""A maker's driver in real hives, of Windows 10 and 7: what is written, and that it is found again.

Compared is key by key; that a Windows starts with it is shown by nothing here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import hivex
import pytest

from notfall_lab import windows_image
from notfall_lab.driver_folder import rst, virtio_win
from notfallserver.guest.facts import Hardware, HardwareDisk, HardwareNic
from notfallserver.guest.windows.adapt import inspect_windows
from notfallserver.guest.windows.apply import apply_windows
from notfallserver.guest.windows.devices import pci_ids, virtual_ids
from notfallserver.guest.windows.facts import WindowsSystem
from notfallserver.guest.windows.hive import Hive
from notfallserver.guest.windows.laid_down import PACKAGES, wanted_ids
from notfallserver.guest.windows.mounts import MountedWindows
from notfallserver.guest.windows.packages import SCSI, Windows
from notfallserver.guest.windows.plan import WindowsPlan, plan_windows
from notfallserver.guest.windows.registry import SetValue
from notfallserver.guest.windows.supplied import Chosen, supplied_drivers
from notfallserver.wire.facts import Machine

VMD = pci_ids(0x8086, 0x9A0B, 0x0B0E1028, 0, 0x010400)
RAID = pci_ids(0x1000, 0x005D, 0x1F491028, 2, 0x010400)
Content = dict[str, tuple[int, bytes]]


def content(path: Path) -> Content:
    """All values by key and name; keys by themselves as well."""
    hive = hivex.Hivex(str(path))
    found: Content = {}
    waiting = [(hive.root(), "")]
    while waiting:
        node, name = waiting.pop()
        found[name + "\\"] = (0, b"")
        for one in hive.node_values(node):
            found[f"{name}\\:{hive.value_key(one)}"] = hive.value_value(one)
        waiting += [(one, f"{name}\\{hive.node_name(one)}") for one in hive.node_children(node)]
    return found


def look(root: Path, ids: tuple[str, ...], boots_by: str) -> WindowsSystem:
    mounted = MountedWindows(root, windows_image.VOLUME, None, None, (boots_by,))
    return inspect_windows(mounted, ids)


def drivers_for(folder: Path, system: WindowsSystem, wanted: Hardware) -> tuple[Chosen, ...]:
    windows = Windows(system.version, system.build, system.architecture, system.server)
    return supplied_drivers(folder, windows, wanted_ids(wanted, system.generation))


def of_drivers(told: WindowsPlan, service: str) -> list[str]:
    changes = [one.change for one in told.steps if service in one.change.lower()]
    return list(dict.fromkeys(changes))


@pytest.mark.parametrize("which", ["10, VMD of Intel's", "10, virtio", "7, virtio"])
def test_a_driver_is_staged_once_and_nothing_else_changes(tmp_path: Path, which: str) -> None:
    root = tmp_path / "c"
    root.mkdir()
    folder = tmp_path / "drivers"
    if which.startswith("10"):
        windows_image.ten(root)
    else:
        windows_image.seven(root)
    nics = [HardwareNic("Ethernet", "52:54:00:77:00:0a", driver="e1000")]
    firmware = "bios" if which.startswith("7") else "uefi"
    if "VMD" in which:
        rst(folder)
        ids, service = VMD, "iastorvd"
        wanted = Hardware(firmware, "primary", [HardwareDisk("nvme", VMD)], nics)
        served = r"PCI\VEN_8086&DEV_9A0B&CC_0104"
    else:
        virtio_win(folder)
        ids, service = virtual_ids("virtio_blk"), "viostor"
        wanted = Hardware(firmware, "stand-in", [HardwareDisk("virtio_blk", ids)], nics)
        served = r"PCI\VEN_1AF4&DEV_1042"
        if which.startswith("7"):  # its processor is an old one
            for inf in folder.rglob("*/w7/amd64/*.inf"):
                inf.write_bytes(inf.read_bytes().replace(b"NTamd64", b"NTx86"))
            for old in folder.rglob("*/w7/amd64"):
                old.rename(old.with_name("x86"))
    system = look(root, ids, firmware)
    supplied = drivers_for(folder, system, wanted)
    assert [one.package.name for one in supplied] == [service]
    original = Machine("pc")
    plain = replace(wanted, disks=[HardwareDisk("ahci")])  # all else is done before
    apply_windows(plan_windows(system, plain, original), root, None, [])
    before = content(root / windows_image.CONFIG / "SYSTEM")
    system = look(root, ids, firmware)
    told = plan_windows(system, wanted, original, supplied)
    changes = apply_windows(told, root, None, [])
    assert changes == of_drivers(told, service)
    after = content(root / windows_image.CONFIG / "SYSTEM")
    assert not set(before) - set(after)
    assert {key for key in before if before[key] != after[key]} == set()
    written = {key for key in after if key not in before and ":" in key}
    registry = [one for one in told.steps if isinstance(one, SetValue)]
    assert {key.lower() for key in written} == {
        f"\\{one.key}\\:{one.name}".lower() for one in registry
    }
    assert (root / f"Windows/System32/drivers/{supplied[0].service.file}").is_file()  # type: ignore[union-attr]
    base = root / PACKAGES / f"{service}-{supplied[0].mark[:12]}"
    assert {one.relative_to(base).as_posix() for one in base.rglob("*") if one.is_file()} == set(
        supplied[0].package.files
    )
    # it is found as Windows finds it, and a second plan changes nothing
    system = look(root, ids, firmware)
    if which.startswith("10"):
        assert system.served[served] == (service,)
    else:
        device = system.critical_devices[served.replace("\\", "#").lower()]
        assert (device.service, device.class_id) == (service, SCSI.lower())
    assert system.starts(service)
    assert plan_windows(system, wanted, original, supplied).steps == ()


def test_a_real_windows_says_what_it_takes_for_a_device(tmp_path: Path) -> None:
    windows_image.ten(tmp_path)
    ids = {
        "storahci": pci_ids(0x8086, 0xA352, 0x08A71028, 0x10, 0x010601),
        "stornvme": pci_ids(0x144D, 0xA808, 0xA801144D, 0, 0x010802),
        "iastorav": pci_ids(0x8086, 0x2822, 0x08A71028, 0, 0x010400),
        "percsas3i": RAID,
    }
    system = look(tmp_path, tuple(one for each in ids.values() for one in each) + VMD, "uefi")
    for service, names in ids.items():
        assert service in {name for one in names for name in system.served[one]}
    assert not any(system.served[one] for one in VMD)


def test_what_is_written_looks_as_windows_own_entries_do(tmp_path: Path) -> None:
    """Kinds of values and where they lie, against an inbox driver's of a real Windows 10, and the
    head of the version against that of a driver which a maker brought."""
    root = tmp_path / "c"
    root.mkdir()
    windows_image.ten(root)
    folder = rst(tmp_path / "drivers")
    wanted = Hardware("uefi", "primary", [HardwareDisk("nvme", VMD)], [])
    system = look(root, VMD, "uefi")
    supplied = drivers_for(folder, system, wanted)
    apply_windows(plan_windows(system, wanted, Machine("pc"), supplied), root, None, [])
    with Hive(root / windows_image.CONFIG / "SYSTEM") as hive:
        own = shape(hive, "lsi_sas3i.inf", r"PCI\VEN_1000&DEV_0097")
        ours = shape(hive, "notfall_iastorvd.inf", r"PCI\VEN_8086&DEV_9A0B&CC_0104")
        label = hive.text(r"DriverDatabase\DriverInfFiles\oem7.inf", "Active")
        brought = hive.values(f"DriverDatabase\\DriverPackages\\{label}")["version"].data
    head = own.pop("version")
    assert ours.pop("version") == (len(brought), brought[:8] + head[1][8:])
    assert set(ours) <= set(own)
    for one, kind in ours.items():
        assert own[one] == kind, one


def shape(hive: Hive, inf: str, device: str) -> dict[str, Any]:
    """Kind of each value by its place; of the version also size, head and class."""
    label = hive.text(f"DriverDatabase\\DriverInfFiles\\{inf}", "Active")
    package = f"DriverDatabase\\DriverPackages\\{label}"
    way = hive.text(f"{package}\\Descriptors\\{device}", "Configuration")
    places = {
        "inf": f"DriverDatabase\\DriverInfFiles\\{inf}",
        "package": package,
        "way": f"{package}\\Configurations\\{way}",
        "device": f"{package}\\Descriptors\\{device}",
    }
    found: dict[str, Any] = {
        f"{place}:{name}": value.kind
        for place, key in places.items()
        for name, value in hive.values(key).items()
    }
    fits = hive.value(f"DriverDatabase\\DeviceIds\\{device}", inf)
    version = hive.value(package, "Version")
    assert fits is not None
    assert version is not None
    found["fits"] = fits
    found["version"] = (len(version.data), version.data[:24])
    found["label"] = label.startswith(f"{inf}_amd64_") and len(label.rpartition("_")[2])
    return found
