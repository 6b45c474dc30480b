"""Partitions, filesystems and boot loader of a guest's disks, on loop devices.

disk0: BIOS: MBR with root (ext4) and swap; UEFI: GPT with ESP, root (ext4) and swap.
disk1: MBR with one ext4, mounted at /var/lib/postgresql. Sizes in bytes.
"""

from __future__ import annotations

import shutil
import uuid
from contextlib import ExitStack
from pathlib import Path

from notfall_lab.guest_tree import chroot, chroot_ready, loop_disk, mounted
from notfall_lab.recipe_base import base_tar
from notfall_lab.recipe_guest import Recipe, furnish, make_initrd
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
        disk, data = (stack.enter_context(loop_disk(path)) for path in paths)
        root_part = f"{disk}p{2 if recipe.firmware == 'uefi' else 1}"
        swap_part = f"{disk}p{3 if recipe.firmware == 'uefi' else 2}"
        ids = {"/": _ext4(root_part, "root"), f"/{DATA}": _ext4(f"{data}p1", "data")}
        ids["swap"] = str(uuid.uuid4())
        run(["mkswap", "-U", ids["swap"], swap_part])
        tree.mkdir()
        stack.enter_context(mounted(root_part, tree))
        (tree / DATA).mkdir(parents=True)
        stack.enter_context(mounted(f"{data}p1", tree / DATA))
        if recipe.firmware == "uefi":
            run(["mkfs.vfat", "-n", "ESP", f"{disk}p1"])
            (tree / "boot/efi").mkdir(parents=True)
            ids["/boot/efi"] = run(["blkid", "-s", "UUID", "-o", "value", f"{disk}p1"]).out.strip()
        run(["tar", "-C", tree, "--numeric-owner", "--xattrs", "-xf", base_tar()], timeout=600)
        (tree / "etc/fstab").write_text(_fstab(ids))
        stack.enter_context(chroot_ready(tree, [disk, root_part, data], root_part, ids["/"]))
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
