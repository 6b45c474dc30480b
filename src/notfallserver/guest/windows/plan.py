"""Decides what a Windows image needs to start on other hardware. Pure: facts in, steps out.

A second plan made from the adapted image changes nothing in it. What fits already is left alone:
drive letters and the boot menu name partitions by what a bit-exact image keeps; page file and
programs at the start are not ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence, Tuple, Union

from notfallserver.guest.facts import Hardware
from notfallserver.guest.plan import AddBootEntry, Warning, WriteFile
from notfallserver.guest.windows.facts import Generation, WindowsSystem
from notfallserver.guest.windows.laid_down import INBOX_CARDS, PutPackage, card_ids, lay_down
from notfallserver.guest.windows.network import plan_network
from notfallserver.guest.windows.registry import (
    SYSTEM,
    DeleteValue,
    RegistryStep,
    SetValue,
    number,
    texts,
)
from notfallserver.guest.windows.storage import Controller, PutDriver, plan_storage
from notfallserver.guest.windows.supplied import Chosen
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

ROLE_FILE = "ProgramData/Notfallserver/Agent/role"
RECOVERY_FILE = "ProgramData/Notfallserver/Agent/recovery"
NETWORK_FILE = "ProgramData/Notfallserver/Agent/network.json"
AGENT_FILES = (ROLE_FILE, RECOVERY_FILE, NETWORK_FILE)
KEPT_AUTO_REBOOT = "NotfallAutoReboot"
"""Beside AutoReboot: what it was on the primary."""

RESTORED = "Database restored from backup"
"""Tells a domain controller at its next start that its database is older than others believe: it
then calls itself by a new invocation id, so that its partners tell it what it does not know any
more, and take what it writes from now on. Without that its changes are dropped in silence (USN
rollback). A physical machine has no VM generation id to notice it by. Windows removes the value."""

LOADER = "efi/microsoft/boot/bootmgfw.efi"
FALLBACK_LOADER = "efi/boot/bootx64.efi"
ALL_DISKS_ONLINE = 1

VIRTUAL_CARDS = ("8139cp", "8139too", "pcnet32", "e1000", "e1000e", "virtio_net", "vmxnet3")
CARD_DRIVERS = {"virtio_net": "netkvm", "vmxnet3": "vmxnet3ndis6"}


@dataclass(frozen=True)
class CopyOnEsp:
    """Copy within the EFI system partition; case of the names does not matter."""

    source: str
    target: str
    change: str


WindowsStep = Union[PutDriver, PutPackage, RegistryStep, WriteFile, CopyOnEsp, AddBootEntry]


@dataclass(frozen=True)
class WindowsPlan:
    """``clock``: what the machine's clock must show, ``utc`` or ``localtime``."""

    steps: Tuple[WindowsStep, ...]
    warnings: Tuple[Warning, ...] = ()
    clock: str = "localtime"


def plan_windows(
    system: WindowsSystem,
    hardware: Hardware,
    original: Machine,
    supplied: Sequence[Chosen] = (),
) -> WindowsPlan:
    """All steps in the order in which they must be done; ``supplied``: the customer's drivers for
    this Windows and this hardware."""
    boot = _boot_loader(system, hardware)
    disks = tuple(Controller(one.driver, one.ids) for one in hardware.disks if one.driver)
    virtual = hardware.role == "stand-in"
    storage = plan_storage(system, tuple(dict.fromkeys(disks)), supplied, virtual)
    packages = lay_down(system, hardware, storage.staged, supplied)
    was = system.files.get(ROLE_FILE, "").strip()
    told = system.files.get(NETWORK_FILE, "")
    network = plan_network(system, hardware, original, told, was)
    steps: List[WindowsStep] = [*storage.drivers, *packages]
    # noted before the registry gives them up: whoever is interrupted in between finds them again
    if network.text and network.text != told:
        change = "addresses of the network cards noted for the agent"
        steps.append(WriteFile(NETWORK_FILE, network.text, change))
    steps += storage.steps
    steps += _filters(system)
    steps += _after_a_crash(system, hardware)
    steps += _disks_and_power(system)
    steps += _directory(system, hardware)
    steps += network.steps
    if hardware.recovery and system.files.get(RECOVERY_FILE, "").strip() != hardware.recovery:
        steps.append(WriteFile(RECOVERY_FILE, hardware.recovery + "\n", "mark of the recovery"))
    # after the registry: what is done there goes by the role that the image had
    if was != hardware.role:
        change = f"role of the agent: {hardware.role}"
        steps.append(WriteFile(ROLE_FILE, hardware.role + "\n", change))
    steps += boot
    warnings = _warnings(system, hardware, supplied)
    warnings += [
        Warning(
            "windows-controller-unknown",
            f"Whether {system.name} has a driver for the disk controller '{one}' can't be told; "
            "without one it does not start. It has one if it ran on this controller before; else "
            "give the emergency server the maker's driver ('notfall drivers add') and try again.",
        )
        for one in storage.unclear
    ]
    warnings += [
        Warning(
            "windows-address-unclear",
            f"The address {one} is set in Windows, but to which network card of the new machine it "
            "belongs can't be told; it is left as it is.",
        )
        for one in network.unclear
    ]
    warnings += [
        Warning(
            "windows-driver-signature",
            f"The driver {one.package.title} carries no signature of its own. Its catalogue was "
            "copied into Windows; whether Windows starts with it can't be told.",
        )
        for one in storage.staged
        if not one.signed
    ]
    clock = "utc" if system.settings.clock_in_utc == 1 else "localtime"
    return WindowsPlan(tuple(steps), tuple(warnings), clock)


def _boot_loader(system: WindowsSystem, hardware: Hardware) -> List[WindowsStep]:
    if hardware.firmware not in system.boots_by:
        asked, other = ("BIOS", "UEFI") if hardware.firmware == "bios" else ("UEFI", "BIOS")
        raise NotfallError(
            "no-boot-loader",
            f"The image has no boot loader for {asked}, and Windows can't be given one here.",
            f"Choose {other} for the machine.",
        )
    if hardware.firmware == "bios" or system.esp is None:
        return []
    steps: List[WindowsStep] = []
    if FALLBACK_LOADER not in system.esp.files:
        change = "UEFI: loader also at the place where firmware without entries looks"
        steps.append(CopyOnEsp("EFI/Microsoft/Boot/bootmgfw.efi", "EFI/Boot/bootx64.efi", change))
    volume = system.esp.volume
    has_place = volume.disk >= 0 and volume.partition > 0
    if hardware.role == "primary" and LOADER in system.esp.files and has_place:
        name = "Windows Boot Manager"
        path = "\\EFI\\Microsoft\\Boot\\bootmgfw.efi"
        change = f"boot entry '{name}' in the firmware"
        steps.append(
            AddBootEntry(volume.disk, volume.partition, volume.part_uuid, name, path, change)
        )
    return steps


def _filters(system: WindowsSystem) -> List[RegistryStep]:
    """A filter that is not there keeps its whole class of devices from starting."""
    steps: List[RegistryStep] = []
    for one in system.filters:
        if not one.missing:
            continue
        key = f"{system.control_set}\\Control\\Class\\{one.class_id}"
        kept = tuple(driver for driver in one.drivers if driver not in one.missing)
        gone = ", ".join(one.missing)
        told = f"driver {gone}, which is missing, no longer stands before {one.devices}"
        if kept:
            steps.append(SetValue(SYSTEM, key, one.side, texts(kept), told))
        else:
            steps.append(DeleteValue(SYSTEM, key, one.side, told))
    return steps


def _after_a_crash(system: WindowsSystem, hardware: Hardware) -> List[RegistryStep]:
    """A stand-in that crashes stays as it is, so that somebody sees why; the primary's own setting
    comes back with it."""
    key = f"{system.control_set}\\Control\\CrashControl"
    now, kept = system.settings.auto_reboot, system.settings.kept_auto_reboot
    if hardware.role == "stand-in" and now != 0:
        told = "after a crash the message stays on the screen"
        before = number(1 if now < 0 else now)
        return [
            SetValue(SYSTEM, key, KEPT_AUTO_REBOOT, before, told),
            SetValue(SYSTEM, key, "AutoReboot", number(0), told),
        ]
    if hardware.role == "primary" and kept >= 0:
        told = "after a crash as before the outage"
        steps: List[RegistryStep] = []
        if now != kept:
            steps.append(SetValue(SYSTEM, key, "AutoReboot", number(kept), told))
        return [*steps, DeleteValue(SYSTEM, key, KEPT_AUTO_REBOOT, told)]
    return []


def _disks_and_power(system: WindowsSystem) -> List[RegistryStep]:
    """All disks online, although their controller is new; a shut-down that really is one."""
    steps: List[RegistryStep] = []
    base, settings = system.control_set, system.settings
    if system.generation is Generation.XP:
        return steps
    if settings.san_policy != ALL_DISKS_ONLINE:
        key = f"{base}\\Services\\partmgr\\Parameters"
        value = number(ALL_DISKS_ONLINE)
        steps.append(SetValue(SYSTEM, key, "SanPolicy", value, "all disks come online"))
    off = number(0)
    if settings.fast_start > 0:
        key = f"{base}\\Control\\Session Manager\\Power"
        told = "fast start-up off: an image of a half-asleep Windows starts nowhere else"
        steps.append(SetValue(SYSTEM, key, "HiberbootEnabled", off, told))
    if settings.hibernation > 0:
        key = f"{base}\\Control\\Power"
        steps.append(SetValue(SYSTEM, key, "HibernateEnabled", off, "hibernation off"))
    return steps


def _directory(system: WindowsSystem, hardware: Hardware) -> List[RegistryStep]:
    """Of a domain controller that becomes a stand-in: what the copy holds may be older than what
    its partners were told last, by the original or by an earlier stand-in. The way back goes on
    where the stand-in ended."""
    if not system.domain_controller or hardware.role != "stand-in":
        return []
    if system.settings.restored == 1:
        return []
    key = f"{system.control_set}\\Services\\NTDS\\Parameters"
    told = "the domain controller knows that its database comes from a copy"
    return [SetValue(SYSTEM, key, RESTORED, number(1), told)]


def _knows_its_drive(system: WindowsSystem) -> bool:
    """Whether a drive letter means the partition that Windows is on: by the GPT's name of it, or by
    the signature of an MBR's disk, with which blkid's name of the partition begins."""
    name = system.root.part_uuid.lower()
    if not name or not system.letters:
        return True  # nothing to compare
    signatures = {f"{one.signature:08x}" for one in system.letters if one.signature}
    return any(one.part_uuid == name for one in system.letters) or name[:8] in signatures


def _warnings(
    system: WindowsSystem, hardware: Hardware, supplied: Sequence[Chosen]
) -> List[Warning]:
    warnings: List[Warning] = []
    known = INBOX_CARDS[system.generation]
    virtual = VIRTUAL_CARDS if hardware.role == "stand-in" else ()
    cards = {nic.driver.replace("-", "_"): nic for nic in hardware.nics}
    for driver, nic in cards.items():
        service = system.services.get(CARD_DRIVERS.get(driver, ""))
        ids = card_ids(nic, system.generation, True)
        given = any(one.serves(ids) for one in supplied if not one.is_storage)
        has = given or (service and service.present)
        if driver in virtual and driver not in known and not has:
            told = f"{system.name} has no driver for the network card ('{driver}')."
            warnings.append(Warning("nic-driver-missing", told))
    if hardware.role == "stand-in":
        told = "Windows may ask to be activated again: the stand-in is another machine to it."
        warnings.append(Warning("windows-activation", told))
    if not _knows_its_drive(system):
        told = (
            "Windows does not know the partition that it is on: its drive may get another letter."
        )
        warnings.append(Warning("windows-drive-letter", told))
    if system.generation is Generation.XP:
        told = f"{system.name} is old, and no start of it was tried: rehearse before relying on it."
        warnings.append(Warning("windows-old", told))
    return warnings
