"""The packages of the matrix's systems: one tar for each release and maker of initramfs.

They have the release's usual kernel with all drivers of disks and cards, and everything that some
case needs; what a case is made of is set when it is assembled.
"""

from __future__ import annotations

import os
from pathlib import Path

from notfall_lab.cache import cached, key_of
from notfall_lab.kernels import release_archive
from notfall_lab.recipe_base import NO_INITRD_HOOK
from notfallserver.server.host.run import run
from notfallserver.server.rescue_medium import PATIENT

SUITES = ("bullseye", "bookworm", "trixie")
_COMMON = (
    *("systemd-sysv", "udev", "dbus", "kmod", "procps", "ifupdown", "iproute2", "iputils-ping"),
    *("linux-image-amd64", "zstd", "xz-utils", "lz4", "cpio", "grub-pc-bin", "grub2-common"),
    *("grub-efi-amd64-bin", "e2fsprogs", "dosfstools", "xfsprogs", "btrfs-progs", "lvm2", "mdadm"),
    *("cryptsetup-bin", "isc-dhcp-client", "bridge-utils", "vlan", "ifenslave"),
    *("network-manager", "netplan.io"),
)
_MORE = {
    "initramfs-tools": ("initramfs-tools", "cryptsetup-initramfs", "busybox"),
    "dracut": ("dracut",),
}
_OF_SUITE = {
    "bullseye": (),
    "bookworm": ("grub-efi-amd64-signed", "shim-signed"),
    "trixie": ("grub-efi-amd64-signed", "shim-signed", "systemd-cryptsetup"),
}
_DRIVERS = (
    *("gpu", "media", "infiniband", "net/wireless", "staging", "isdn", "iio", "comedi", "hwmon"),
    *("bluetooth", "usb/serial", "usb/gadget", "usb/misc", "input/joystick", "input/touchscreen"),
    *("leds", "mtd", "platform", "target", "accel", "net/can", "net/wwan", "crypto", "power"),
    *("net/ethernet/mellanox", "net/ethernet/chelsio", "net/ethernet/qlogic", "vhost", "rtc"),
    *("net/ethernet/cavium", "net/ethernet/sfc", "net/ethernet/netronome", "edac", "watchdog"),
)
_REST = (
    *("sound", "net/bluetooth", "net/wireless", "net/mac80211", "net/netfilter", "net/sched"),
    *("net/sctp", "net/tipc", "net/openvswitch", "net/sunrpc", "net/ceph", "net/can", "net/atm"),
    *("fs/nfs", "fs/nfsd", "fs/ceph", "fs/cifs", "fs/smb", "fs/ocfs2", "fs/gfs2", "fs/afs"),
    *("fs/dlm", "fs/orangefs", "fs/9p", "fs/coda", "fs/bcachefs", "arch/x86/kvm"),
)
_EXCLUDED = (
    *(f"/usr/share/{one}/*" for one in ("man", "locale", "doc", "info", "zoneinfo")),
    *(f"/lib/modules/*/kernel/drivers/{one}/*" for one in _DRIVERS),
    *(f"/usr/lib/modules/*/kernel/drivers/{one}/*" for one in _DRIVERS),
    *(f"/lib/modules/*/kernel/{one}/*" for one in _REST),
    *(f"/usr/lib/modules/*/kernel/{one}/*" for one in _REST),
    *("/usr/lib/grub/x86_64-efi/monolithic/*", "/usr/lib/x86_64-linux-gnu/gconv/*"),
    *("/usr/lib/firmware/*", "/lib/firmware/*"),
)


def packages(suite: str, tool: str) -> tuple[str, ...]:
    return (*_COMMON, *_MORE[tool], *_OF_SUITE[suite])


def tree_key(suite: str, tool: str) -> str:
    return key_of(suite, *packages(suite, tool), *_EXCLUDED, NO_INITRD_HOOK)


def tree_tar(suite: str, tool: str) -> Path:
    """The path of the tar, made when it is not in the cache (one to two minutes)."""

    def build(directory: Path) -> None:
        _build(directory, suite, tool)

    return cached(f"matrix-{suite}-{tool}", tree_key(suite, tool), build) / "tree.tar"


def _build(directory: Path, suite: str, tool: str) -> None:
    hook = [f"--essential-hook={NO_INITRD_HOOK}"] if tool == "initramfs-tools" else []
    # dracut's package makes an initramfs whenever a kernel comes; each case makes its own
    late = (
        [
            "--essential-hook=mkdir -p $1/etc/kernel/postinst.d && "
            "ln -sf /bin/true $1/etc/kernel/postinst.d/dracut"
        ]
        if tool == "dracut"
        else []
    )
    run(
        [
            *("mmdebstrap", "--quiet", "--variant=minbase", PATIENT),
            "--aptopt=Apt::Install-Recommends false",
            "--dpkgopt=force-confold",
            *(f"--dpkgopt=path-exclude={one}" for one in _EXCLUDED),
            f"--include={','.join(packages(suite, tool))}",
            *hook,
            *late,
            *(suite, directory / "tree.tar", release_archive()),
        ],
        timeout=1800,
        environment={"TMPDIR": os.environ.get("TMPDIR", "/tmp")},
    )
