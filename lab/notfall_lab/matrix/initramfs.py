"""The initramfs of a case, as it would be on a machine with the case's own disks.

``dep`` and ``hostonly`` look at the machine they run on, which is another one here; so they are
told what they would find. Afterwards the settings are as the release has them.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from notfall_lab.guest_tree import chroot, write_file
from notfall_lab.matrix.case import DRIVERS, Case
from notfall_lab.matrix.layers import Layers
from notfallserver.server.host.run import run

_CRYPTO = ("dm_crypt", "xts", "ecb", "aes_generic", "sha256_generic", "algif_skcipher")
_STACK_MODULES = {
    "lvm": ("dm_mod",),
    "raid": ("md_mod", "raid1"),
    "luks": ("dm_mod", *_CRYPTO),
    "luks-lvm": ("dm_mod", *_CRYPTO),
}
_DRACUT_PARTS = {
    "lvm": ["lvm"],
    "raid": ["mdraid"],
    "luks": ["crypt"],
    "luks-lvm": ["crypt", "lvm"],
}


def modules(case: Case) -> list[str]:
    """What such a machine has loaded to reach its root."""
    return [*DRIVERS[case.source], case.filesystem, *_STACK_MODULES.get(case.stack, ())]


def make_initramfs(tree: Path, case: Case, layers: Layers, root: str) -> None:
    """``root`` is what the kernel's line says."""
    if case.stack == "raid":
        text = f"HOMEHOST <system>\nMAILADDR root\n{layers.array}"
        write_file(tree / "etc/mdadm/mdadm.conf", text)
    if case.initramfs == "dracut":
        _dracut(tree, case, layers, root)
    else:
        _initramfs_tools(tree, case)


def _initramfs_tools(tree: Path, case: Case) -> None:
    folder = tree / "etc/initramfs-tools"
    write_file(folder / "update-initramfs.conf", "update_initramfs=yes\nbackup_initramfs=no")
    write_file(folder / "conf.d/resume", "RESUME=none")
    final = "MODULES=most" if case.initramfs == "most" else "MODULES=dep"
    write_file(folder / "conf.d/driver-policy", final.replace("dep", "list"))
    known = (folder / "modules").read_text() if (folder / "modules").exists() else ""
    if case.initramfs == "dep":
        write_file(folder / "modules", "\n".join(modules(case)))
    chroot(tree, "update-initramfs", "-c", "-k", "all", timeout=600)
    write_file(folder / "conf.d/driver-policy", final)
    write_file(folder / "modules", known)


def _dracut(tree: Path, case: Case, layers: Layers, root: str) -> None:
    version = next((tree / "lib/modules").iterdir()).name
    words = kernel_words(case, layers)
    parts = ["rootfs-block", *_DRACUT_PARTS.get(case.stack, [])]
    if case.encrypted and case.suite == "trixie":
        parts.append("systemd-cryptsetup")
    # the devices of this machine must not be taken for the system's own
    # (and without /run there is no hostonly)
    with ExitStack() as stack:
        for folder in ("sys", "run"):
            run(["mount", "-t", "tmpfs", "tmpfs", tree / folder])
            stack.callback(run, ["umount", tree / folder])
        chroot(
            tree,
            *("dracut", "--force", "--quiet", "--hostonly", "--no-hostonly-cmdline"),
            # it would add all of virtio because this machine is virtual
            *(() if case.source in ("virtio", "scsi") else ("--omit", "qemu qemu-net")),
            *("--add", " ".join(parts)),
            *("--add-drivers", " ".join(modules(case)), "--filesystems", case.filesystem),
            *("--kernel-cmdline", " ".join([f"root={root}", *words])),
            *(f"/boot/initrd.img-{version}", version),
            timeout=600,
        )


def kernel_words(case: Case, layers: Layers) -> list[str]:
    """What dracut needs on the kernel's line to find the root in its layers."""
    if case.initramfs != "dracut":
        return []
    words = []
    if case.encrypted:
        words.append(f"rd.luks.name={layers.luks}=secret")
    if case.stack in ("lvm", "luks-lvm"):
        words.append("rd.lvm.lv=vg0/root")
    if case.stack == "raid":
        words.append(f"rd.md.uuid={layers.array_uuid}")
    return words
