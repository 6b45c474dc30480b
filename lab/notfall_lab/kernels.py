"""Small guests with the kernels of several Debian releases, for what depends on the kernel.

A guest is that release's cloud kernel, Python, and the tools of LVM, md, LUKS and filesystems in a
squashfs: no network, no systemd, up in seconds. :func:`ask` boots it, runs a Python script in it
and returns the JSON that the script printed.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notfall_lab.cache import cached, key_of
from notfallserver.server.host.run import run
from notfallserver.server.rescue_medium import PATIENT
from notfallserver.server.vm.spec import EMULATED_CPU

PACKAGES = (
    *("linux-image-cloud-amd64", "initramfs-tools", "zstd", "kmod", "python3", "util-linux"),
    *("fdisk", "lvm2", "mdadm", "cryptsetup-bin", "e2fsprogs", "xfsprogs", "btrfs-progs"),
    "dosfstools",
)
_EXCLUDED = ("man", "locale", "doc", "info")
PROGRAMS = Path(__file__).parent / "kernel_guest"
_INIT, _HOOK = PROGRAMS / "init.sh", PROGRAMS / "initrd-hook.sh"
_LEAN_INITRD = (
    "mkdir -p $1/etc/initramfs-tools/conf.d;"
    ' printf "virtio_pci\\nvirtio_blk\\nsquashfs\\n" > $1/etc/initramfs-tools/modules;'
    " echo MODULES=list > $1/etc/initramfs-tools/conf.d/lab;"
    " echo update_initramfs=no > $1/etc/initramfs-tools/update-initramfs.conf"
)
_MAKE_INITRD = (
    "cd $1/usr/share/initramfs-tools/hooks; rm -f lvm2 mdadm btrfs udev dmsetup fsck thermal;"
    f" install -m 755 {_HOOK} $1/etc/initramfs-tools/hooks/lab;"
    ' chroot $1 sh -c "mkinitramfs -o /boot/initrd \\$(ls /lib/modules)"'
)
_CMDLINE = "console=ttyS0 mitigations=off panic=-1 rdinit=/lab-boot"


@dataclass(frozen=True)
class KernelGuest:
    kernel: Path
    initrd: Path
    root: Path


def kernel_guest(suite: str) -> KernelGuest:
    """The guest of a release, made when it is not in the cache (about a minute).

    Linux is 5.10 in bullseye, 6.1 in bookworm, 6.12 in trixie.
    """
    key = key_of(suite, *PACKAGES, *_EXCLUDED, _LEAN_INITRD, _MAKE_INITRD, _INIT, _HOOK)
    directory = cached(f"kernel-{suite}", key, lambda place: _build(place, suite))
    return KernelGuest(*(directory / name for name in ("vmlinuz", "initrd", "root.squashfs")))


def _build(directory: Path, suite: str) -> None:
    tree = directory / "tree"
    run(
        [
            *("mmdebstrap", "--quiet", "--variant=minbase"),
            PATIENT,
            *("--aptopt=Apt::Install-Recommends false", "--dpkgopt=force-confold"),
            *(f"--dpkgopt=path-exclude=/usr/share/{one}/*" for one in _EXCLUDED),
            f"--include={','.join(PACKAGES)}",
            f"--essential-hook={_LEAN_INITRD}",
            f"--customize-hook={_MAKE_INITRD}",
            f"--customize-hook=install -m 755 {_INIT} $1/lab-init",
            *(suite, tree, release_archive()),
        ],
        timeout=1800,
        environment={"TMPDIR": os.environ.get("TMPDIR", "/tmp")},
    )
    shutil.copyfile(next(tree.glob("boot/vmlinuz-*")), directory / "vmlinuz")
    shutil.copyfile(tree / "boot/initrd", directory / "initrd")
    left_out = [tree / one for one in ("boot", "var/lib/apt", "var/cache")]
    _squash(tree, directory / "root.squashfs", *left_out)
    shutil.rmtree(tree)


def release_archive() -> str:
    """Where this machine gets its own release from, which has the others, too.

    Only the release itself: what came later (updates, security) ends with a release's support.
    """
    own = platform.freedesktop_os_release()["VERSION_CODENAME"]
    told = run(["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)"]).out
    for line in told.splitlines():
        release, _, place = line.partition(" ")
        if release == own:
            return place
    raise RuntimeError(f"apt knows no place where {own} comes from")


def _squash(tree: Path, target: Path, *left_out: Path) -> None:
    quiet = ["-noappend", "-no-progress", "-quiet", "-comp", "zstd", "-Xcompression-level", "3"]
    excluded: list[str | Path] = ["-e", *left_out] if left_out else []
    run(["mksquashfs", tree, target, *quiet, *excluded], timeout=600)


@dataclass(frozen=True)
class SuppliedDisk:
    """A disk of the guest: vdc, vdd, ... in order."""

    path: Path
    sector: int = 512


def garbage_disk(path: Path, mib: int, sector: int = 512) -> SuppliedDisk:
    """A new disk on which nothing is zero by chance."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\xee" * (mib << 20))
    return SuppliedDisk(path, sector)


def ask(
    guest: KernelGuest,
    directory: Path,
    payload: Mapping[str, Path],
    disks: Sequence[SuppliedDisk],
    timeout: float,
) -> Any:
    """Run ``main.py`` of the payload (name -> file); ``directory`` is for the guest's files."""
    tree = directory / "payload"
    tree.mkdir(parents=True)
    for name, file in payload.items():
        shutil.copyfile(file, tree / name)
    _squash(tree, directory / "payload.squashfs")
    line = _qemu(guest, directory)
    for number, disk in enumerate(disks):
        sizes = f"logical_block_size={disk.sector},physical_block_size={disk.sector}"
        line += _disk(disk.path, f"disk{number}", sizes)
    subprocess.run(line, stdin=subprocess.DEVNULL, timeout=timeout, check=True)
    answer = (directory / "answer").read_text()
    if not answer.strip():
        raise RuntimeError((directory / "console").read_text(errors="replace")[-3000:])
    return json.loads(answer)


def _qemu(guest: KernelGuest, directory: Path) -> list[str]:
    return [
        *("setpriv", "--pdeathsig", "KILL", "--", "qemu-system-x86_64", "-nodefaults"),
        *("-no-user-config", "-machine", "q35", "-accel", "tcg,thread=multi"),
        *("-cpu", EMULATED_CPU),
        *("-m", "640", "-smp", "2", "-display", "none", "-no-reboot"),
        *("-kernel", str(guest.kernel), "-initrd", str(guest.initrd)),
        *("-append", _CMDLINE),
        *("-serial", f"file:{directory}/console", "-serial", f"file:{directory}/answer"),
        *_disk(guest.root, "root", "", "readonly=on"),
        *_disk(directory / "payload.squashfs", "payload", "", "readonly=on"),
    ]


def _disk(
    path: Path, name: str, options: str, mode: str = "cache=unsafe,discard=unmap"
) -> list[str]:
    device = f"virtio-blk-pci,drive={name},serial={name}"
    return [
        *("-drive", f"if=none,id={name},format=raw,file={path},{mode}"),
        *("-device", f"{device},{options}" if options else device),
    ]
