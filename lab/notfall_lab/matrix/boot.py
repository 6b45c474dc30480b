"""The boot loader of a case: GRUB of its own release, written without asking this machine.

grub-install and grub-mkconfig would look at the disks of the machine they run on; what they write
is the same: boot.img and core.img in front of the first partition or in GPT's boot partition, or a
loader on the ESP, and a grub.cfg whose lines are Debian's.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from notfall_lab.guest_tree import chroot, write_file
from notfall_lab.matrix.case import Case
from notfall_lab.matrix.layout import Layout
from notfallserver.server.host.run import run

_MODULES = (
    *("part_msdos", "part_gpt", "ext2", "xfs", "btrfs", "lvm", "mdraid1x", "search_fs_uuid"),
    *("search", "normal", "configfile", "linux", "echo", "test", "serial", "terminal"),
)
_SIGNED_SHIM = "usr/lib/shim/shimx64.efi.signed"
_SIGNED_GRUB = "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
_CFG = """set default=0
set timeout=0
{console}
menuentry 'Debian GNU/Linux' --class debian {{
\tsearch --no-floppy --fs-uuid --set=root {uuid}
\tlinux\t{folder}/{kernel} root={root} ro {words}
\tinitrd\t{folder}/{initrd}
}}
"""


def write_grub(tree: Path, case: Case, uuid: str, root: str, words: list[str]) -> None:
    """GRUB's files below /boot; ``uuid`` is of the filesystem that /boot lies on."""
    folder = boot_folder(case)
    serial = "serial --unit=0 --speed=115200\nterminal_input serial\nterminal_output serial"
    names = {one.name.split("-")[0]: one.name for one in (tree / "boot").glob("*-amd64")}
    line = [*words, "mitigations=off", *_consoles(case)]
    (tree / "boot/grub").mkdir(exist_ok=True)
    write_file(
        tree / "boot/grub/grub.cfg",
        _CFG.format(
            console=serial if "serial" in case.odd else "terminal_output console",
            uuid=uuid,
            folder=folder,
            kernel=names["vmlinuz"],
            initrd=names["initrd.img"],
            root=root,
            words=" ".join(line),
        ),
    )
    write_file(tree / "etc/default/grub", f'GRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX="{" ".join(line)}"')
    if case.root == "device":
        with (tree / "etc/default/grub").open("a") as text:
            text.write("GRUB_DISABLE_LINUX_UUID=true\n")
    early = f"search.fs_uuid {uuid} root\nset prefix=($root){folder}/grub\n"
    write_file(tree / "tmp/early.cfg", early)
    for kind, more in _kinds(case):
        if "boot-full" not in case.odd:
            shutil.copytree(tree / "usr/lib/grub" / kind, tree / "boot/grub" / kind)
        options = ["-O", kind, "-p", f"{folder}/grub", "-c", "/tmp/early.cfg"]
        chroot(tree, "grub-mkimage", *options, "-o", f"/tmp/{kind}.img", *_MODULES, more)


def _kinds(case: Case) -> list[tuple[str, str]]:
    """GRUB's name of each kind that is installed, and the module by which it reaches its files."""
    kinds = [(case.bios, ("i386-pc", "biosdisk")), (case.uefi, ("x86_64-efi", "fat"))]
    return [kind for wanted, kind in kinds if wanted]


def boot_folder(case: Case) -> str:
    """Where GRUB finds /boot on its filesystem."""
    if case.apart:
        return ""
    return "/@rootfs/boot" if case.filesystem == "btrfs" else "/boot"


def _consoles(case: Case) -> list[str]:
    serial, screen = "console=ttyS0,115200n8", "console=tty0"
    if "serial" in case.odd:
        return [serial]
    return [serial, screen] if "screen" in case.odd else [screen, serial]


def write_boot_code(tree: Path, case: Case, layout: Layout, disk: Path) -> None:
    """What lies outside of filesystems; with UEFI the ESP and all on it."""
    if case.uefi:
        _fill_esp(tree, case, layout, disk)
    if case.bios and "boot-code-lost" not in case.odd:
        _write_mbr(tree, layout, disk)


def _write_mbr(tree: Path, layout: Layout, disk: Path) -> None:
    core = (tree / "tmp/i386-pc.img").read_bytes()
    boot = bytearray((tree / "usr/lib/grub/i386-pc/boot.img").read_bytes())
    start = layout.part("grub").start // 512 if layout.has("grub") else 1
    body = bytearray(core)
    # boot.img names the core's first sector, and that one the sectors of the rest
    boot[0x5C:0x64] = start.to_bytes(8, "little")
    body[0x1F4:0x1FC] = (start + 1).to_bytes(8, "little")
    with disk.open("r+b") as raw:
        table = raw.read(512)[440:]
        raw.seek(0)
        raw.write(bytes(boot[:440]) + table)
        raw.seek(start * 512)
        raw.write(body)


def _fill_esp(tree: Path, case: Case, layout: Layout, disk: Path) -> None:
    esp = layout.part("esp")
    place = f"{disk}@@{esp.start}"
    shape = ["-T", str(esp.size // 512), "-h", "16", "-s", "32", "-N", "77abcd02", "-v", "ESP"]
    run(["mformat", "-i", place, *shape])
    run(["mmd", "-i", place, "::EFI", "::EFI/debian"])
    files = {"grubx64.efi": tree / "tmp/x86_64-efi.img"}
    if case.firmware == "secure":
        files = {"shimx64.efi": tree / _SIGNED_SHIM, "grubx64.efi": tree / _SIGNED_GRUB}
        with (tree / "tmp/early.cfg").open("a") as text:
            text.write("configfile $prefix/grub.cfg\n")
        run(["mcopy", "-i", place, tree / "tmp/early.cfg", "::EFI/debian/grub.cfg"])
    for name, file in files.items():
        run(["mcopy", "-i", place, file, f"::EFI/debian/{name}"])
    if "entry-lost" not in case.odd:
        run(["mmd", "-i", place, "::EFI/BOOT"])
        first, *others = files.items()
        run(["mcopy", "-i", place, first[1], "::EFI/BOOT/BOOTX64.EFI"])
        for name, file in others:
            run(["mcopy", "-i", place, file, f"::EFI/BOOT/{name}"])


ESP_UUID = "77AB-CD02"
