"""A folder as a mounted Windows looks: hives in place, and a file for each driver."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from notfall_lab.hives import small_hive, unpack, unpack_dirty
from notfallserver.guest.facts import Volume
from notfallserver.guest.windows.adapt import inspect_windows
from notfallserver.guest.windows.facts import WindowsSystem
from notfallserver.guest.windows.hive import Hive
from notfallserver.guest.windows.mounts import MountedWindows
from notfallserver.guest.windows.read_machine import read_services
from notfallserver.guest.windows.registry import Value, number, text, texts

CONFIG = "Windows/System32/config"
VOLUME = Volume("/dev/vda2", 0, 2, "ntfs")
TEN = {
    "ProductName": text("Windows 10 Pro"),
    "CurrentVersion": text("6.3"),
    "CurrentMajorVersionNumber": number(10),
    "CurrentMinorVersionNumber": number(0),
    "CurrentBuildNumber": text("16299"),
    "EditionID": text("Professional"),
    "InstallationType": text("Client"),
}
VISTA = {
    "ProductName": text("Windows Server (R) 2008 Standard"),
    "CurrentVersion": text("6.0"),
    "CurrentBuildNumber": text("6003"),
    "InstallationType": text("Server"),
}
SERVER_2012 = {
    "ProductName": text("Windows Server 2012 R2 Standard"),
    "CurrentVersion": text("6.3"),
    "CurrentBuildNumber": text("9600"),
    "InstallationType": text("Server"),
}
SEVEN = {
    "ProductName": text("Windows 7 Professional"),
    "CurrentVersion": text("6.1"),
    "CurrentBuildNumber": text("7601"),
    "EditionID": text("Professional"),
    "InstallationType": text("Client"),
}


def ten(root: Path) -> Path:
    """Windows 10 of a Dell, its hive dirty."""
    _folders(root)
    unpack_dirty(root / CONFIG, "SYSTEM")
    return _finished(root, TEN)


def seven(root: Path) -> Path:
    """Windows 7 of a VMware machine, its hive clean."""
    _folders(root)
    unpack("SYSTEM", root / CONFIG)
    return _finished(root, SEVEN)


def xp(root: Path, files: Iterable[str] = ("atapi", "intelide", "pciide", "disk")) -> Path:
    """XP as its makers left it: of the IDE drivers only atapi has a service."""
    _folders(root)
    services = "ControlSet001\\Services"
    boot = {"Type": number(1), "Start": number(0)}
    small_hive(
        root / CONFIG / "SYSTEM",
        {
            "Select": {"Current": number(1), "Default": number(1)},
            f"{services}\\atapi": boot,
            f"{services}\\disk": boot,
            f"{services}\\intelppm": {"Type": number(1), "Start": number(1)},
            f"{services}\\cercsr6": boot,
            "ControlSet001\\Control\\CriticalDeviceDatabase\\GenDisk": {
                "Service": text("disk"),
                "ClassGUID": text("{4D36E967-E325-11CE-BFC1-08002BE10318}"),
            },
        },
    )
    for name in files:
        (root / "Windows/System32/drivers" / f"{name}.sys").write_bytes(b"MZ")
    return root


def small_ten(root: Path) -> Path:
    """Its hive is small, so that it can be adapted many times in a moment."""
    return _small(root, "storahci", {"DriverDatabase": {"Version": number(1)}})


def small_2008(root: Path) -> Path:
    """Of the generation of Vista: no database of drivers, and its own driver for SATA."""
    _small(root, "msahci", {})
    return _finished(root, VISTA)


def small_2012(root: Path) -> Path:
    """A domain controller."""
    parameters = "ControlSet001\\Services\\NTDS\\Parameters"
    database = {"DriverDatabase": {"Version": number(1)}}
    _small(root, "storahci", {**database, parameters: {"DSA Database file": text("C:\\ntds.dit")}})
    return _finished(root, SERVER_2012)


def _small(root: Path, sata: str, further: dict[str, dict[str, Value]]) -> Path:
    _folders(root)
    services = "ControlSet001\\Services"
    late = {"Type": number(1), "Start": number(3)}
    small_hive(
        root / CONFIG / "SYSTEM",
        {
            "Select": {"Current": number(1), "Default": number(1)},
            f"{services}\\{sata}": late,
            f"{services}\\{sata}\\StartOverride": {"0": number(3)},
            f"{services}\\atapi": late,
            **further,
            f"{services}\\Tcpip\\Parameters\\Interfaces\\{{AA}}": {
                "EnableDHCP": number(0),
                "IPAddress": texts(["198.51.100.10"]),
                "SubnetMask": texts(["255.255.255.0"]),
                "DefaultGateway": texts(["198.51.100.1"]),
            },
        },
    )
    (root / f"Windows/System32/drivers/{sata}.sys").write_bytes(b"MZ")
    return root


def read(root: Path, boots_by: tuple[str, ...] = ()) -> WindowsSystem:
    """The facts, as the adaptation reads them."""
    mounted = MountedWindows(root, VOLUME, None, None, boots_by)
    return inspect_windows(mounted)


def _folders(root: Path) -> None:
    for folder in (CONFIG, "Windows/System32/drivers"):
        (root / folder).mkdir(parents=True)


def _finished(root: Path, version: dict[str, Value]) -> Path:
    key = "Microsoft\\Windows NT\\CurrentVersion"
    small_hive(root / CONFIG / "SOFTWARE", {key: version})
    with Hive(root / CONFIG / "SYSTEM") as system:
        services = read_services(system, "ControlSet001", lambda path: False)
    for service in services.values():
        path = root / "Windows" / service.file
        if service.file.startswith("system32/drivers/") and not service.file.endswith("/"):
            (root / "Windows/System32/drivers" / path.name).write_bytes(b"MZ")
    return root
