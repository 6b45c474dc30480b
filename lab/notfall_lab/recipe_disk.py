"""Partitions, filesystems and boot loader of a guest's disks, on loop devices.

disk0: BIOS: MBR with root (ext4) and swap; UEFI: GPT with ESP, root (ext4) and swap.
disk1: MBR with one ext4, mounted at /var/lib/postgresql. Sizes in bytes.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from notfall_lab.recipe_base import base_tar
from notfall_lab.recipe_guest import Recipe, chroot, furnish, make_initrd
from notfallserver.server.host.run import run

SIZES = (3 << 30, 2 << 30)
DATA = "var/lib/postgresql"
_TABLES = {
    "bios": "label: dos\nsize=2688MiB, type=83, bootable\ntype=82\n",
    "uefi": "label: gpt\nsize=64MiB, type=U\nsize=2624MiB, type=L\ntype=S\n",
}
_GRUB = """GRUB_DEFAULT=0
GRUB_TIMEOUT=0
GRUB_RECORDFAIL_TIMEOUT=0
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT="mitigations=off"
GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200n8"
GRUB_TERMINAL=console
GRUB_DISABLE_OS_PROBER=true
"""


def make_disks(directory: Path, recipe: Recipe) -> None:
    """Write ``disk0.raw`` and ``disk1.raw`` into ``directory``; cleans up what a crash left."""
    paths = [directory / f"disk{number}.raw" for number in range(len(SIZES))]
    tree = directory / "tree"
    tables = (_TABLES[recipe.firmware], "label: dos\ntype=83\n")
    for path, size, table in zip(paths, SIZES, tables, strict=True):
        with path.open("xb") as stream:
            stream.truncate(size)
        run(["sfdisk", "--quiet", path], text_in=table)
    with ExitStack() as stack:
        disk, data = (stack.enter_context(_loop(path)) for path in paths)
        root_part = f"{disk}p{2 if recipe.firmware == 'uefi' else 1}"
        swap_part = f"{disk}p{3 if recipe.firmware == 'uefi' else 2}"
        ids = {"/": _ext4(root_part, "root"), f"/{DATA}": _ext4(f"{data}p1", "data")}
        ids["swap"] = str(uuid.uuid4())
        run(["mkswap", "-U", ids["swap"], swap_part])
        tree.mkdir()
        stack.enter_context(_mounted(root_part, tree))
        (tree / DATA).mkdir(parents=True)
        stack.enter_context(_mounted(f"{data}p1", tree / DATA))
        if recipe.firmware == "uefi":
            run(["mkfs.vfat", "-n", "ESP", f"{disk}p1"])
            (tree / "boot/efi").mkdir(parents=True)
            ids["/boot/efi"] = run(["blkid", "-s", "UUID", "-o", "value", f"{disk}p1"]).out.strip()
        run(["tar", "-C", tree, "--numeric-owner", "--xattrs", "-xf", base_tar()], timeout=600)
        (tree / "etc/fstab").write_text(_fstab(ids))
        stack.enter_context(_chroot_ready(tree, [disk, root_part, data], root_part, ids["/"]))
        furnish(tree, recipe)
        make_initrd(tree)
        _install_grub(tree, recipe, disk, ids["/"])
        run(["fstrim", tree], timeout=300)
        run(["fstrim", tree / DATA], timeout=300)
    tree.rmdir()


def _fstab(ids: dict[str, str]) -> str:
    lines = [
        f"UUID={ids['/']} / ext4 errors=remount-ro 0 1",
        f"UUID={ids[f'/{DATA}']} /{DATA} ext4 defaults 0 2",
        f"UUID={ids['swap']} none swap sw 0 0",
    ]
    if "/boot/efi" in ids:
        lines.append(f"UUID={ids['/boot/efi']} /boot/efi vfat umask=0077 0 1")
    return "\n".join(lines) + "\n"


def _ext4(device: str, label: str) -> str:
    name = str(uuid.uuid4())
    # Inode tables are written now: a filesystem that goes on initialising itself in the background
    # would change blocks all by itself during the lab's measurements.
    run(["mkfs.ext4", "-q", "-F", "-L", label, "-U", name, "-E", "lazy_itable_init=0", device])
    return name


def _install_grub(tree: Path, recipe: Recipe, disk: str, root_id: str) -> None:
    (tree / "etc/default/grub").write_text(_GRUB)
    if recipe.firmware == "uefi":
        _install_grub_efi(tree, f"{disk}p1", root_id)
    else:
        chroot(tree, "grub-install", "--target=i386-pc", disk)
    chroot(tree, "update-grub")


def _install_grub_efi(tree: Path, esp: str, root_id: str) -> None:
    """What grub-install does, by mtools: this kernel may not know vfat.

    The loader lies at Debian's place and at the fallback one, which needs no NVRAM entry.
    """
    early = f"search.fs_uuid {root_id} root\nset prefix=($root)/boot/grub\n"
    (tree / "boot/grub").mkdir(exist_ok=True)
    shutil.copytree(tree / "usr/lib/grub/x86_64-efi", tree / "boot/grub/x86_64-efi")
    (tree / "boot/early.cfg").write_text(early)
    image = ["-O", "x86_64-efi", "-p", "/boot/grub", "-c", "/boot/early.cfg"]
    modules = ["part_gpt", "part_msdos", "fat", "ext2", "search_fs_uuid", "normal", "configfile"]
    chroot(tree, "grub-mkimage", *image, "-o", "/boot/grubx64.efi", *modules)
    run(["mmd", "-i", esp, "::EFI", "::EFI/debian", "::EFI/BOOT"])
    run(["mcopy", "-i", esp, tree / "boot/early.cfg", "::EFI/debian/grub.cfg"])
    for place in ("debian/grubx64.efi", "BOOT/BOOTX64.EFI"):
        run(["mcopy", "-i", esp, tree / "boot/grubx64.efi", f"::EFI/{place}"])
    for left in ("early.cfg", "grubx64.efi"):
        (tree / "boot" / left).unlink()


@contextmanager
def _loop(path: Path) -> Iterator[str]:
    device = run(["losetup", "--find", "--show", "--partscan", path]).out.strip()
    try:
        run(["partx", "-u", device])
        _wait_for(Path(f"{device}p1"))
        yield device
    finally:
        run(["losetup", "-d", device])


def _wait_for(node: Path) -> None:
    """udev makes the nodes on some machines, the kernel alone on others."""
    until = time.monotonic() + 10
    while not node.exists():
        if time.monotonic() > until:
            raise RuntimeError(f"{node} did not appear")
        time.sleep(0.05)


@contextmanager
def _mounted(device: str, place: Path) -> Iterator[None]:
    run(["mount", "-o", "discard", device, place])
    try:
        yield
    finally:
        run(["umount", place])


@contextmanager
def _chroot_ready(tree: Path, devices: list[str], root: str, root_id: str) -> Iterator[None]:
    """/dev with just these devices, /proc, /sys; no service starts from a package's script."""
    with ExitStack() as stack:
        for kind in ("proc", "sysfs"):
            place = tree / {"proc": "proc", "sysfs": "sys"}[kind]
            run(["mount", "-t", kind, kind, place])
            stack.callback(run, ["umount", place])
        run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", tree / "dev"])
        stack.callback(run, ["umount", tree / "dev"])
        for device in [*devices, "/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"]:
            found = Path(device).stat()
            kept = stat.S_IFMT(found.st_mode) | 0o666
            os.mknod(tree / device.lstrip("/"), kept, found.st_rdev)
            (tree / device.lstrip("/")).chmod(0o666)
        (tree / "dev/shm").mkdir()
        (tree / "dev/shm").chmod(0o1777)
        # grub-mkconfig writes root=UUID only when udev's link is there.
        links = tree / "dev/disk/by-uuid"
        links.mkdir(parents=True)
        (links / root_id).symlink_to(f"../../{Path(root).name}")
        yield


def sweep(directory: Path) -> None:
    """Undo mounts and loop devices of a build in ``directory`` that was killed."""
    mounts = run(["findmnt", "-rn", "-o", "TARGET"]).out.splitlines()
    for place in reversed([one for one in mounts if Path(one).is_relative_to(directory)]):
        run(["umount", place])
    for line in run(["losetup", "-n", "-l", "-O", "NAME,BACK-FILE"]).out.splitlines():
        device, _, backing = line.partition(" ")
        if Path(backing.strip()).is_relative_to(directory):
            run(["losetup", "-d", device])
    shutil.rmtree(directory, ignore_errors=True)
