"""Makes the disks of a case: partitions, layers, filesystem, Debian, and what the case is about."""

from __future__ import annotations

import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from notfall_lab.guest_tree import chroot, chroot_ready, loop_part, mounted, write_file
from notfall_lab.matrix import boot, initramfs, networks
from notfall_lab.matrix.case import Case
from notfall_lab.matrix.layers import Layers, make_layers, mirror, seal
from notfall_lab.matrix.layout import DATA_MIB, DATA_SCRIPT, DATA_SIGNATURE, MIB, Layout, lay_out
from notfall_lab.matrix.networks import Wiring
from notfall_lab.matrix.trees import tree_tar
from notfall_lab.recipe_guest import MASKED, ROOT_PASSWORD
from notfallserver.server.host.run import run

PROOF = Path(__file__).parent / "proof.sh"
SECOND_SWAP = "77000000-0000-4000-8000-000000005a5a"
"""UUID of the swap on the second disk of a mirror."""
ROOM_LEFT = 4 * MIB
"""In /boot, where it is full: less than an initramfs."""
_UNIT = """[Unit]
Description=Tells on the serial line how the system came up
[Service]
Type=simple
ExecStart=/bin/sh /usr/local/lib/proof.sh
[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Made:
    disks: tuple[Path, ...]
    layout: Layout
    layers: Layers


@dataclass(frozen=True)
class _Ids:
    root: str
    boot: str
    swap: str


def assemble(case: Case, wiring: Wiring, directory: Path) -> Made:
    """Write ``disk0.raw`` (and ``disk1.raw``) into ``directory``, about half a minute."""
    layout = lay_out(case)
    disks = [directory / f"disk{number}.raw" for number in range(case.disks)]
    for number, disk in enumerate(disks):
        data = number > 0 and "data" in case.odd
        with disk.open("xb") as stream:
            stream.truncate(DATA_MIB * MIB if data else layout.size)
        script = DATA_SCRIPT if data else layout.script(case, second=number > 0)
        if number:  # partitions' names must differ
            script = script.replace("77000000-", "78000000-")
            script = script.replace(layout.signature, DATA_SIGNATURE)
        run(["sfdisk", "--quiet", disk], text_in=script)
    layers = make_layers(case, layout, disks, directory)
    ids = _Ids(*(str(uuid.uuid4()) for _ in range(3)))
    tree = directory / "tree"
    tree.mkdir()
    tar = tree_tar(case.suite, case.tool)
    with ExitStack() as stack:
        target = stack.enter_context(_root_device(case, layers, disks[0], directory))
        swap = layout.part("swap")
        with loop_part(disks[0], swap.start, swap.size) as device:
            run(["mkswap", "-U", ids.swap, "-L", "swap", device])
        if "swaps" in case.odd:
            with loop_part(disks[1], swap.start, swap.size) as device:
                run(["mkswap", "-U", SECOND_SWAP, device])
        _make_filesystem(case, target, ids.root, tar, directory)
        stack.enter_context(_mounted_root(case, target, tree))
        devices = [target]
        if case.apart:
            part = layout.part("boot")
            device = stack.enter_context(loop_part(disks[0], part.start, part.size))
            run(["mkfs.ext4", "-q", "-F", "-L", "boot", "-U", ids.boot, device])
            (tree / "boot").mkdir()
            stack.enter_context(mounted(device, tree / "boot"))
            devices.append(device)
        if "data" in case.odd:
            device = stack.enter_context(loop_part(disks[1], MIB, (DATA_MIB - 1) * MIB))
            run(["mkfs.ext4", "-q", "-F", "-L", "data", device])
            (tree / "srv").mkdir()
            stack.enter_context(mounted(device, tree / "srv"))
            write_file(tree / "srv/data", "what lies on the second disk")
        run(["tar", "-C", tree, "--numeric-owner", "--xattrs", "-xf", tar], timeout=600)
        inner = ""
        if case.encrypted:
            part = layout.part("root")
            inner = stack.enter_context(loop_part(disks[0], part.start, part.size))
            devices.append(inner)
        stack.enter_context(chroot_ready(tree, devices, target, ids.root))
        if inner:
            (tree / "dev/disk/by-uuid" / layers.luks).symlink_to(f"../../{Path(inner).name}")
        _furnish(tree, case, layout, layers, ids, wiring)
        root = _spec(case.root, case, layout, ids)
        initramfs.make_initramfs(tree, case, layers, root)
        words = [*networks.kernel_words(case), *initramfs.kernel_words(case, layers)]
        if case.filesystem == "btrfs":
            words.append("rootflags=subvol=@rootfs")
        boot.write_grub(tree, case, ids.boot if case.apart else ids.root, root, words)
        boot.write_boot_code(tree, case, layout, disks[0])
        for left in ("early.cfg", *(one.name for one in (tree / "tmp").glob("*.img"))):
            (tree / "tmp" / left).unlink()
        if "boot-full" in case.odd:
            _fill_up(tree / "boot")
        apart = [tree / "boot"] if case.apart else []
        apart += [tree / "srv"] if "data" in case.odd else []
        for place in (tree, *apart):
            # whoever else still holds this mount for a moment, all of it is in the file now
            run(["fsfreeze", "--freeze", place])
            run(["fsfreeze", "--unfreeze", place])
    if case.encrypted:
        seal(directory / "plain", disks[0], layers)
        (directory / "plain").unlink()
    if case.stack == "raid":
        mirror(disks, layers)
    tree.rmdir()
    return Made(tuple(disks), layout, layers)


@contextmanager
def _root_device(case: Case, layers: Layers, disk: Path, directory: Path) -> Iterator[str]:
    if not case.encrypted:
        with loop_part(disk, layers.offset, layers.size) as device:
            yield device
        return
    plain = directory / "plain"
    with plain.open("xb") as stream:
        stream.truncate(layers.size)
    with loop_part(plain, 0, layers.size) as device:
        yield device


def _make_filesystem(case: Case, device: str, name: str, tar: Path, directory: Path) -> None:
    if case.filesystem == "ext4":
        run(["mkfs.ext4", "-q", "-F", "-L", "root", "-U", name, device])
    elif case.filesystem == "btrfs":
        run(["mkfs.btrfs", "-q", "-f", "-L", "root", "-U", name, device])
    else:
        _make_xfs(device, name, tar, directory)


def _make_xfs(device: str, name: str, tar: Path, directory: Path) -> None:
    """By the release's own program: what is new in XFS is new in its defaults first."""
    tools = directory / "tools"
    tools.mkdir()
    kept = ["./usr/sbin/mkfs.xfs", "./usr/lib", "./lib", "./lib64", "./usr/lib64", "./sbin"]
    wild = ["--wildcards", "--exclude=*/modules/*", "--exclude=*/python3*"]
    run(["tar", "-C", tools, *wild, "-xf", tar, *kept], timeout=300, ok=(0, 2))
    # a node of its own: a mount of this machine's node counts as a mounted filesystem
    os.mknod(tools / "device", stat.S_IFBLK | 0o600, Path(device).stat().st_rdev)
    (tools / "proc").mkdir()
    program = "/usr/sbin/mkfs.xfs" if (tools / "usr/sbin/mkfs.xfs").exists() else "/sbin/mkfs.xfs"
    run(["mount", "-t", "proc", "proc", tools / "proc"])
    try:
        chroot(tools, program, "-q", "-f", "-L", "root", "-m", f"uuid={name}", "/device")
    finally:
        run(["umount", tools / "proc"])
    shutil.rmtree(tools)


@contextmanager
def _mounted_root(case: Case, device: str, tree: Path) -> Iterator[None]:
    if case.filesystem != "btrfs":
        with mounted(device, tree):
            yield
        return
    with mounted(device, tree):
        run(["btrfs", "subvolume", "create", tree / "@rootfs"])
    run(["mount", "-o", "discard,subvol=@rootfs", device, tree])
    try:
        yield
    finally:
        run(["umount", tree])


def _spec(style: str, case: Case, layout: Layout, ids: _Ids) -> str:
    """The root filesystem as ``style`` names it."""
    if case.stack in ("lvm", "luks-lvm") and style in ("mapper", "device"):
        return "/dev/mapper/vg0-root" if style == "mapper" else "/dev/vg0/root"
    if case.stack == "luks" and style in ("mapper", "device"):
        return "/dev/mapper/secret"
    return {
        "uuid": f"UUID={ids.root}",
        "label": "LABEL=root",
        "partuuid": f"PARTUUID={layout.part_uuid('root')}",
        "device": case.part_name(layout.part("root").number),
    }[style]


def _fstab(case: Case, layout: Layout, ids: _Ids) -> str:
    by_name = case.fstab == "device"
    options = "defaults,subvol=@rootfs" if case.filesystem == "btrfs" else "defaults"
    lines = [f"{_spec(case.fstab, case, layout, ids)} / {case.filesystem} {options} 0 1"]

    def name(role: str, uuid_of: str, label: str) -> str:
        if by_name:
            return case.part_name(layout.part(role).number)
        if case.fstab == "partuuid":
            return f"PARTUUID={layout.part_uuid(role)}"
        return f"LABEL={label}" if case.fstab == "label" else f"UUID={uuid_of}"

    if case.apart:
        lines.append(f"{name('boot', ids.boot, 'boot')} /boot ext4 defaults 0 2")
    if "data" in case.odd:
        device = f"/dev/{case.disk_name(1)}1"
        data = f"PARTUUID={DATA_SIGNATURE}-01" if case.fstab == "partuuid" else device
        lines.append(f"{data} /srv ext4 defaults 0 2")
    if case.uefi:
        lines.append(f"{name('esp', boot.ESP_UUID, 'ESP')} /boot/efi vfat umask=0077 0 1")
    lines.append(f"{name('swap', ids.swap, 'swap')} none swap sw 0 0")
    if "swaps" in case.odd:
        lines.append(f"UUID={SECOND_SWAP} none swap sw 0 0")
    return "\n".join(lines)


def _furnish(
    tree: Path, case: Case, layout: Layout, layers: Layers, ids: _Ids, wiring: Wiring
) -> None:
    write_file(tree / "etc/hostname", case.name)
    write_file(tree / "etc/hosts", f"127.0.0.1 localhost {case.name}")
    write_file(tree / "etc/fstab", _fstab(case, layout, ids))
    if case.encrypted:
        mapped = "secret"
        # named by the installer after the partition it was on
        source = (
            case.part_name(layout.part("root").number)
            if case.fstab == "device"
            else f"UUID={layers.luks}"
        )
        write_file(tree / "etc/crypttab", f"{mapped} {source} none luks,initramfs")
    if case.uefi:
        (tree / "boot/efi").mkdir(parents=True, exist_ok=True)
    write_file(tree / "etc/systemd/journald.conf.d/lab.conf", "[Journal]\nStorage=volatile")
    write_file(
        tree / "etc/systemd/system.conf.d/lab.conf",
        "[Manager]\nDefaultTimeoutStopSec=15s\nDefaultDeviceTimeoutSec=120s",
    )
    write_file(tree / "usr/local/lib/proof.sh", PROOF.read_text())
    write_file(tree / "etc/systemd/system/proof.service", _UNIT)
    chroot(tree, "systemd-machine-id-setup")
    chroot(tree, "chpasswd", text_in=f"root:{ROOT_PASSWORD}\n")
    chroot(tree, "systemctl", "mask", *MASKED, "NetworkManager-wait-online.service")
    chroot(tree, "systemctl", "enable", "proof.service")
    networks.configure(tree, case, wiring)


def _fill_up(place: Path) -> None:
    told = run(["stat", "-f", "-c", "%a %S", place]).out.split()
    room = int(told[0]) * int(told[1]) - ROOM_LEFT
    if room > 0:
        run(["dd", "if=/dev/urandom", f"of={place}/old-kernels", f"bs={room}", "count=1"])
