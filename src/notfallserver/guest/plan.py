"""Decides what an image needs to boot on other hardware. Pure: facts in, frozen steps out.

A second plan made from the adapted image has no steps. What already fits is left alone; above all
an initramfs that carries the needed drivers, and boot code that is on the disk bit for bit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple, Union

from notfallserver.guest.facts import Hardware, Kernel, System
from notfallserver.guest.late import late_files, late_script
from notfallserver.guest.names import DeviceNames
from notfallserver.guest.network import moved_addresses, network_edits
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

ROLE_FILE = "/etc/notfall-agent/role"
RECOVERY_FILE = "/etc/notfall-agent/recovery"
"""Which recovery made this machine: by it the server knows it from the original, come back."""
MODULES_FILE = "/etc/initramfs-tools/modules"
DRACUT_FILE = "/etc/dracut.conf.d/90-notfall.conf"
FALLBACK_LOADER = "efi/boot/bootx64.efi"
NO_WAITING = "nofail,x-systemd.device-timeout=5s"
"""For swap that may come back one day; by ``nofail`` alone the start waits for it all the same."""

NEEDED_MODULES: Dict[str, Tuple[str, ...]] = {
    "virtio_blk": ("virtio_pci", "virtio_blk"),
    "virtio_scsi": ("virtio_pci", "virtio_scsi", "sd_mod"),
    "ahci": ("ahci", "sd_mod"),
    "ata_piix": ("ata_piix", "sd_mod"),
    "nvme": ("nvme",),
    "usb_storage": ("usb_storage", "sd_mod"),
    "xen_blkfront": ("xen_blkfront",),
}
"""What each disk driver needs beside itself; any other is taken for a SCSI host adapter."""

VMD = "PCI\\VEN_8086&CC_0104"
"""A controller of Intel's that is of the kind of a RAID: where NVMe disks hang on one, it is the
Volume Management Device, and they are not seen before it has its driver."""

USUAL_DRIVERS = ("ahci", "nvme", "virtio_blk", "megaraid_sas", "mpt3sas")
"""Of the controllers that a new machine is likely to have."""


@dataclass(frozen=True)
class WriteFile:
    path: str
    text: str
    change: str


@dataclass(frozen=True)
class CopyFile:
    """Copy within the guest; case of the names on FAT does not matter."""

    source: str
    target: str
    change: str


@dataclass(frozen=True)
class AddDrivers:
    """Into the initramfs of one kernel."""

    version: str
    modules: Tuple[str, ...]
    change: str


@dataclass(frozen=True)
class AddLate:
    """Into the initramfs of one kernel: what changes a locked root at its start (``late.py``)."""

    version: str
    script: str
    change: str


@dataclass(frozen=True)
class InstallGrub:
    """Write GRUB's boot code for BIOS on a disk."""

    disk: int
    change: str


@dataclass(frozen=True)
class AddBootEntry:
    """An entry in the firmware's own boot menu; only where the firmware is at hand."""

    disk: int
    partition: int
    part_uuid: str
    label: str
    loader: str
    change: str


Step = Union[WriteFile, CopyFile, AddDrivers, AddLate, InstallGrub, AddBootEntry]


@dataclass(frozen=True)
class Warning:
    """Something a person should know; the image is adapted nevertheless."""

    code: str
    text: str


@dataclass(frozen=True)
class Plan:
    steps: Tuple[Step, ...]
    warnings: Tuple[Warning, ...] = ()


def plan_adaptation(system: System, hardware: Hardware, original: Machine) -> Plan:
    """All steps in the order in which they must be done."""
    names = DeviceNames(system.volumes, original)
    edits: Dict[str, Tuple[str, str]] = {}
    warnings: List[Warning] = []
    for edited in (_mount_tables(system, names, warnings), _kernel_lines(system, names)):
        edits.update(edited)
    edits.update(network_edits(system.files, hardware))
    if system.files.get(ROLE_FILE, "").strip() != hardware.role:
        edits[ROLE_FILE] = (hardware.role + "\n", f"role of the agent: {hardware.role}")
    if hardware.recovery:
        edits[RECOVERY_FILE] = (hardware.recovery + "\n", "mark of the recovery")
    late: List[AddLate] = []
    if system.locked:
        late = _late(system, hardware, names, original, edits)
        edits = {path: edit for path, edit in edits.items() if path.startswith("/boot/")}
        warnings += _locked(system)
    rebuilds = _initramfs(system, hardware, edits)
    steps: List[Step] = [WriteFile(path, text, why) for path, (text, why) in edits.items()]
    steps += rebuilds
    steps += late
    steps += _boot_loader(system, hardware)
    warnings += _missing_nic_drivers(system, hardware)
    warnings += _odd_boot_loader(system, hardware)
    return Plan(tuple(steps), tuple(warnings))


def _locked(system: System) -> List[Warning]:
    warnings = [
        Warning(
            "locked-system",
            "The system is encrypted. It asks for its key when it starts, and is adapted further "
            "then.",
        )
    ]
    lacking = _lacks(system.kernels[-1], USUAL_DRIVERS) if system.kernels else ()
    if lacking:
        warnings.append(
            Warning(
                "locked-drivers",
                f"Its initramfs lacks {', '.join(lacking)}, and without the key none can be added: "
                "it can come back only to a machine with a controller like the present one.",
            )
        )
    return warnings


def _late(
    system: System,
    hardware: Hardware,
    names: DeviceNames,
    original: Machine,
    edits: Dict[str, Tuple[str, str]],
) -> List[AddLate]:
    """What can't be written into a locked root is written by its initramfs."""
    devices = [
        (path, stable)
        for path in _partitions(original)
        for stable in [names.stable(path)]
        if stable
    ]
    script = late_script(late_files(edits), devices, moved_addresses(hardware))
    return [
        AddLate(one.version, script, f"initramfs of {one.version} adapts the encrypted system")
        for one in system.kernels
        if one.late != script
    ]


def _partitions(original: Machine) -> List[str]:
    """The original's names of its partitions."""
    found = []
    for disk in original.disks:
        between = "p" if disk.name[-1:].isdigit() else ""
        found += [f"/dev/{disk.name}{between}{one.number}" for one in disk.partitions if one.number]
    return found


def _is_missing_swap(parts: Sequence[str], names: DeviceNames) -> bool:
    """Swap on a disk that did not come along: nothing is lost with it but time at each start."""
    if len(parts) < 4 or parts[2] != "swap" or re.search(r"\b(noauto|nofail)\b", parts[3]):
        return False
    spec = parts[0]
    on_disk = spec.startswith(("UUID=", "LABEL=", "PARTUUID=", "/dev/disk/by-"))
    return (on_disk or names.is_hardware_name(spec)) and names.find(spec) is None


def _mount_tables(
    system: System, names: DeviceNames, warnings: List[Warning]
) -> Dict[str, Tuple[str, str]]:
    """fstab, crypttab and the resume device by UUID instead of by device name."""
    edits: Dict[str, Tuple[str, str]] = {}
    for path, column in (("/etc/fstab", 0), ("/etc/crypttab", 1)):
        text = system.files.get(path, "")
        lines, changed = [], []
        for line in text.splitlines():
            parts = line.split()
            if line.lstrip().startswith("#") or len(parts) <= column:
                lines.append(line)
                continue
            spec = parts[column]
            stable = names.stable(spec)
            if stable:
                line = line.replace(spec, stable, 1)
                changed.append(f"{spec} -> {stable}")
            elif path == "/etc/fstab" and _is_missing_swap(parts, names):
                line = re.sub(r"^(\s*\S+\s+\S+\s+\S+\s+\S+)", rf"\1,{NO_WAITING}", line)
                changed.append(f"no long waiting for the swap {spec}, which is not there")
            elif names.is_hardware_name(spec) and not re.search(r"\b(noauto|nofail)\b", line):
                warnings.append(
                    Warning(
                        "unknown-device",
                        f"{path} names '{spec}', which belongs to no disk of this image; the "
                        "system may wait for it when it boots.",
                    )
                )
            lines.append(line)
        if changed:
            edits[path] = ("\n".join(lines) + "\n", f"{path}: {', '.join(changed)}")
    path = "/etc/initramfs-tools/conf.d/resume"
    text = system.files.get(path, "")
    found = re.search(r"^RESUME=(/dev/\S+)", text, re.M)
    stable = names.stable(found.group(1)) if found else None
    if found and stable:
        edits[path] = (text.replace(found.group(1), stable), f"{path}: {stable}")
    return edits


def _kernel_lines(system: System, names: DeviceNames) -> Dict[str, Tuple[str, str]]:
    """root= and resume= on kernel command lines by UUID instead of by device name."""
    edits: Dict[str, Tuple[str, str]] = {}
    for path, text in system.files.items():
        if not path.startswith(("/boot/", "/etc/default/grub", "/etc/kernel/cmdline")):
            continue
        done: List[str] = []

        def by_uuid(match: re.Match[str], done: List[str] = done) -> str:
            stable = names.stable(match.group(2))
            if stable is None:
                return match.group(0)
            done.append(f"{match.group(2)} -> {stable}")
            return f"{match.group(1)}={stable}"

        new = re.sub(r"\b(root|resume)=(/dev/[^\s\"']+)", by_uuid, text)
        if path == "/etc/default/grub":
            new = re.sub(r"^(\s*GRUB_DISABLE_LINUX_UUID=[\"']?true)", r"#\1", new, flags=re.M)
        if new != text:
            told = ", ".join(dict.fromkeys(done)) or "root filesystem by UUID from now on"
            edits[path] = (new, f"{path}: {told}")
    return edits


def needed_modules(hardware: Hardware) -> Tuple[str, ...]:
    """The modules without which the root disk is not found."""
    wanted: List[str] = []
    for disk in hardware.disks:
        driver = disk.driver.replace("-", "_")
        if driver:
            wanted += NEEDED_MODULES.get(driver, (driver, "sd_mod"))
        if driver == "nvme" and VMD in disk.ids:
            wanted.append("vmd")
    return tuple(dict.fromkeys(wanted))


def _lacks(kernel: Kernel, modules: Tuple[str, ...]) -> Tuple[str, ...]:
    return tuple(one for one in modules if one not in kernel.carried | kernel.builtin)


def _initramfs(
    system: System, hardware: Hardware, edits: Dict[str, Tuple[str, str]]
) -> List[AddDrivers]:
    modules = needed_modules(hardware)
    bootable = [kernel for kernel in system.kernels if kernel.initramfs]
    if not bootable:
        return []
    newest = bootable[-1]
    impossible = [one for one in _lacks(newest, modules) if one not in newest.available]
    if impossible and system.locked:
        raise NotfallError(
            "driver-locked",
            f"The system is encrypted, and the initramfs of {newest.version}, which starts it, has "
            f"no driver '{impossible[0]}' for the new hardware; without the key none can be added.",
            f"On the primary add a line '{impossible[0]}' to {MODULES_FILE} (dracut: add_drivers), "
            "run 'update-initramfs -u' (dracut: 'dracut --force') and replicate again.",
        )
    if impossible:
        raise NotfallError(
            "driver-missing",
            f"The system's kernel {newest.version} has no driver '{impossible[0]}' for a disk "
            "controller of the new hardware.",
            "Choose another disk controller, or install a kernel with that driver on the primary.",
        )
    rebuilds: List[AddDrivers] = []
    added: List[str] = []
    for kernel in bootable:
        lacking = _lacks(kernel, modules)
        if lacking and all(one in kernel.available for one in lacking):
            added += lacking
            change = f"initramfs of {kernel.version} now with {', '.join(lacking)}"
            rebuilds.append(AddDrivers(kernel.version, lacking, change))
    # so that the initramfs of the next kernel update has them too
    if added and "dracut" in system.tools and DRACUT_FILE not in system.files:
        text = f'add_drivers+=" {" ".join(dict.fromkeys(added))} "\n'
        edits[DRACUT_FILE] = (text, f"{DRACUT_FILE}: {', '.join(dict.fromkeys(added))}")
    if "update-initramfs" not in system.tools:
        return rebuilds
    listed = system.files.get(MODULES_FILE, "")
    absent = [one for one in dict.fromkeys(added) if one not in listed.split()]
    if absent:
        text = listed + ("" if listed.endswith("\n") or not listed else "\n")
        text += "\n".join(absent) + "\n"
        edits[MODULES_FILE] = (text, f"{MODULES_FILE}: {', '.join(absent)}")
    return rebuilds


def _boot_loader(system: System, hardware: Hardware) -> List[Step]:
    if hardware.firmware == "bios":
        if "grub" in system.boot_code or "other" in system.boot_code:
            return []
        if "grub-install" not in system.tools:
            raise _no_loader("BIOS", "Choose UEFI for the machine.")
        return [InstallGrub(0, "GRUB's boot code for BIOS written again")]
    loaders = [(esp, loader) for esp in system.esp for loader in [_vendor_loader(esp.files)]]
    known = [(esp, loader) for esp, loader in loaders if loader]
    fallback = any(FALLBACK_LOADER in esp.files for esp in system.esp)
    if not known and not fallback:
        raise _no_loader("UEFI", "Choose BIOS for the machine.")
    steps: List[Step] = []
    if not fallback:
        esp, loader = known[0]
        steps += _fallback_copies(esp.mountpoint, esp.files, loader or "")
    if hardware.role == "primary" and known:
        esp, loader = known[0]
        vendor = (loader or "").split("/")[1]
        path = "\\" + (loader or "").replace("/", "\\")
        volume = esp.volume
        if volume.disk >= 0 and volume.partition:
            change = f"boot entry '{vendor}' in the firmware"
            steps.append(
                AddBootEntry(volume.disk, volume.partition, volume.part_uuid, vendor, path, change)
            )
    return steps


def _vendor_loader(files: Tuple[str, ...]) -> Optional[str]:
    """The installed loader, the signed first stage before the second."""
    for name in ("shimx64.efi", "grubx64.efi", "systemd-bootx64.efi"):
        for path in files:
            parts = path.split("/")
            if len(parts) == 3 and parts[0] == "efi" and parts[2] == name and parts[1] != "boot":
                return path
    return None


def _fallback_copies(mountpoint: str, files: Tuple[str, ...], loader: str) -> List[CopyFile]:
    folder = loader.rsplit("/", 1)[0]
    copies = [
        CopyFile(
            f"{mountpoint}/{loader}",
            f"{mountpoint}/EFI/BOOT/BOOTX64.EFI",
            "UEFI: loader also at the place where firmware without entries looks",
        )
    ]
    if loader.endswith("shimx64.efi"):
        # shim loads its second stage from the directory it was started from
        for name in ("grubx64.efi", "mmx64.efi"):
            if f"{folder}/{name}" in files:
                told = f"UEFI: {name} beside it"
                copies.append(
                    CopyFile(f"{mountpoint}/{folder}/{name}", f"{mountpoint}/EFI/BOOT/{name}", told)
                )
    return copies


def _no_loader(firmware: str, remedy: str) -> NotfallError:
    return NotfallError(
        "no-boot-loader",
        f"The image has no boot loader for {firmware}, and none can be installed.",
        remedy,
    )


def _odd_boot_loader(system: System, hardware: Hardware) -> List[Warning]:
    """One that nobody here can mend: it may still start, and only a rehearsal tells."""
    if hardware.firmware != "bios" or "grub" in system.boot_code:
        return []
    if "other" not in system.boot_code:
        return []
    return [Warning("odd-boot-loader", "Its boot loader is not GRUB, and is left as it is.")]


def _missing_nic_drivers(system: System, hardware: Hardware) -> List[Warning]:
    if not system.kernels or system.locked:
        return []
    newest = system.kernels[-1]
    known = newest.available | newest.builtin
    drivers = dict.fromkeys(nic.driver.replace("-", "_") for nic in hardware.nics if nic.driver)
    return [
        Warning("nic-driver-missing", f"The system's kernel has no network driver '{one}'.")
        for one in drivers
        if one not in known
    ]
