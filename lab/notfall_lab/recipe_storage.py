"""The storage guest: root on LVM, and most of what data can lie on, on six disks.

disk0: MBR: /boot, physical volume (root and a part of /m/spread). disk1: GPT: vfat, swap, ext4 with
bigalloc, ext4 with inline data, physical volume (the rest of /m/spread). disk2, disk3: GPT: md
RAID 1 with LVM and XFS with rmapbt; on disk2 also LUKS with ext4. disk4: sectors of 4096 bytes,
GPT, ext4 and Btrfs. disk5: XFS without rmapbt on the bare disk. A swap file lies in the root.

What needs a kernel with device-mapper and md is made in a guest (``storage_layout.py``).
"""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from notfall_lab.cache import FILES, cached, key_of
from notfall_lab.guest_tree import (
    chroot,
    chroot_ready,
    loop_disk,
    loop_part,
    mounted,
    sweep,
    write_file,
)
from notfall_lab.kernels import PROGRAMS, SuppliedDisk, ask, kernel_guest
from notfall_lab.machine import HardDisk
from notfall_lab.recipe_base import NO_INITRD_HOOK, SUITE
from notfall_lab.recipe_guest import MASKED, Recipe, configure_network, make_initrd
from notfallserver.server.host.run import run
from notfallserver.server.rescue_medium import PATIENT

STORAGE = Recipe("vault", "bios", 30, "ifupdown")
SIZES_MIB = (1700, 450, 430, 380, 220, 320)
SECTORS = (512, 512, 512, 512, 4096, 512)
ROOT_SIZE = 340 * (4 << 20)
_LAYOUT = PROGRAMS / "storage_layout.py"
_FROM_FILES = ("lab-shell.py", "lab-shell.service")
PACKAGES = (
    *("systemd-sysv", "udev", "dbus", "kmod", "procps", "ifupdown", "iproute2", "util-linux"),
    *("linux-image-cloud-amd64", "initramfs-tools", "lz4", "grub-pc-bin", "grub2-common"),
    *("python3", "fdisk", "e2fsprogs", "dosfstools", "xfsprogs", "btrfs-progs"),
    *("lvm2", "mdadm", "cryptsetup-bin"),
)
_EXCLUDED = (
    *(f"/usr/share/{one}" for one in ("man", "locale", "doc", "info", "zoneinfo", "grub")),
    *(f"/lib/modules/*/kernel/{one}" for one in ("sound", "drivers/net/ethernet", "drivers/gpu")),
    *(
        f"/lib/modules/*/kernel/{one}"
        for one in ("drivers/infiniband", "net/netfilter", "net/sched")
    ),
    *(f"/lib/modules/*/kernel/fs/{one}" for one in ("nfs", "nfsd", "ceph", "smb", "ocfs2", "gfs2")),
)
"""Every MiB of the root is hashed under emulation."""
_GRUB = """set timeout=0
insmod part_msdos
insmod ext2
search --no-floppy --fs-uuid --set=root {boot}
menuentry Debian {{
    linux /{kernel} root=/dev/mapper/sys-root ro mitigations=off console=tty0 console=ttyS0,115200n8
    initrd /{initrd}
}}
"""


def storage_disks(directory: Path) -> list[HardDisk]:
    """Fresh disks of the guest in ``directory``; the image is made when it is not in the cache."""
    directory.mkdir(parents=True, exist_ok=True)
    disks = []
    for number, (disk, sector) in enumerate(
        zip(sorted(_image().glob("disk*.raw")), SECTORS, strict=True)
    ):
        run(["cp", "--reflink=auto", "--sparse=always", disk, directory / disk.name], timeout=600)
        disks.append(HardDisk(directory / disk.name, serial=f"vault-{number}", sector=sector))
    return disks


def _image() -> Path:
    here = Path(__file__).parent
    parts = [Path(__file__), here / "recipe_guest.py", here / "guest_tree.py", _LAYOUT]
    key = key_of(repr(STORAGE), *parts, *(FILES / name for name in _FROM_FILES))
    return cached("image-vault", key, _make, sweep)


def _make(directory: Path) -> None:
    disks = [directory / f"disk{number}.raw" for number in range(len(SIZES_MIB))]
    for path, size in zip(disks, SIZES_MIB, strict=True):
        with path.open("xb") as stream:
            stream.truncate(size << 20)
    supplied = [SuppliedDisk(path, sector) for path, sector in zip(disks, SECTORS, strict=True)]
    told = ask(kernel_guest(SUITE), directory / "layout", {"main.py": _LAYOUT}, supplied, 600)
    if "error" in told:
        raise RuntimeError(told["error"])
    shutil.rmtree(directory / "layout")
    _fill(directory, disks[0], told)


def _fill(directory: Path, disk: Path, told: dict[str, Any]) -> None:
    """Debian on the root volume, the kernel on /boot, GRUB before them."""
    tree = directory / "tree"
    tree.mkdir()
    with ExitStack() as stack:
        whole = stack.enter_context(loop_disk(disk))
        root = stack.enter_context(loop_part(disk, told["root"], ROOT_SIZE))
        run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", root])
        stack.enter_context(mounted(root, tree))
        (tree / "boot").mkdir()
        stack.enter_context(mounted(f"{whole}p1", tree / "boot"))
        _install(tree)
        (tree / "etc/fstab").write_text("\n".join(told["fstab"]) + "\n")
        (tree / "etc/crypttab").write_text(told["crypttab"] + "\n")
        (tree / "etc/secret.key").write_bytes(bytes.fromhex(told["key"]))
        (tree / "etc/secret.key").chmod(0o600)
        for line in told["fstab"]:
            place = line.split()[1]
            if place.startswith("/m/"):
                (tree / place.lstrip("/")).mkdir(parents=True)
        run(["dd", "if=/dev/zero", f"of={tree}/swapfile", "bs=1M", "count=32", "status=none"])
        (tree / "swapfile").chmod(0o600)
        run(["mkswap", tree / "swapfile"])
        devices = [whole, f"{whole}p1", root]
        stack.enter_context(chroot_ready(tree, devices, root, told["boot_uuid"]))
        make_initrd(tree)
        chroot(tree, "grub-install", "--target=i386-pc", whole)
        names = {one.name.split("-")[0]: one.name for one in (tree / "boot").glob("*-amd64")}
        grub = _GRUB.format(
            boot=told["boot_uuid"], kernel=names["vmlinuz"], initrd=names["initrd.img"]
        )
        (tree / "boot/grub/grub.cfg").write_text(grub)
        run(["fstrim", tree], timeout=300)
    tree.rmdir()


def _install(tree: Path) -> None:
    made = tree.with_name("base.tar")
    run(
        [
            *("mmdebstrap", "--quiet", "--variant=minbase", "--dpkgopt=force-confold"),
            PATIENT,
            "--aptopt=Apt::Install-Recommends false",
            *(f"--dpkgopt=path-exclude={one}/*" for one in _EXCLUDED),
            *(f"--include={','.join(PACKAGES)}", f"--essential-hook={NO_INITRD_HOOK}", SUITE, made),
        ],
        timeout=1800,
        environment={"TMPDIR": os.environ.get("TMPDIR", "/tmp")},
    )
    run(["tar", "-C", tree, "--numeric-owner", "--xattrs", "-xf", made], timeout=600)
    made.unlink()
    write_file(tree / "etc/hostname", STORAGE.name)
    write_file(tree / "etc/initramfs-tools/conf.d/lab", "MODULES=dep\nCOMPRESS=lz4\nRESUME=none")
    write_file(tree / "etc/systemd/journald.conf.d/lab.conf", "[Journal]\nStorage=volatile")
    write_file(
        tree / "etc/systemd/system.conf.d/lab.conf",
        "[Manager]\nDefaultTimeoutStopSec=15s\nDefaultDeviceTimeoutSec=300s",
    )
    configure_network(tree, STORAGE)
    write_file(tree / "usr/local/lib/lab-shell.py", (FILES / "lab-shell.py").read_text())
    unit = (FILES / "lab-shell.service").read_text()
    write_file(tree / "etc/systemd/system/lab-shell.service", unit)
    chroot(tree, "systemd-machine-id-setup")
    chroot(tree, "systemctl", "mask", *MASKED)
    chroot(tree, "systemctl", "enable", "lab-shell.service")
