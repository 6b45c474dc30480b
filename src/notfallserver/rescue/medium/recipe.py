"""What the rescue system is made of: packages, what is left out of them, modules of the initrds.

The squashfs holds Debian only. Our program and the server's address travel in small archives
appended to the initrds, so a new program or another server costs seconds and no new squashfs.
Changing what goes into squashfs or initrds changes :func:`fingerprint`, which names them.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

SUITE = "bookworm"
KERNEL_PACKAGE = "linux-image-amd64"

PACKAGES = (
    # a machine that runs, and Python for our program
    "busybox-static", "kmod", "udev", "systemd-standalone-sysusers", "iproute2", "eject",
    "python3", "python3-zstandard", "openssh-sftp-server",
    # disks and filesystems
    "util-linux", "fdisk", "gdisk", "mdadm", "lvm2", "nvme-cli", "e2fsprogs", "dosfstools",
    "xfsprogs", "btrfs-progs", "ntfs-3g", "python3-hivex", "rsync",
    # boot loaders and what initramfs archives are packed with
    "grub2-common", "grub-pc-bin", "grub-efi-amd64-bin", "efibootmgr",
    "zstd", "xz-utils", "lz4", "lzop", "bzip2", "cpio",
)  # fmt: skip

DPKG_EXCLUDES = (
    "/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*",
    "/usr/share/i18n/*", "/usr/share/lintian/*", "/usr/share/bug/*",
    "/usr/lib/x86_64-linux-gnu/gconv/*",
    # only xfs_scrub needs it, 30 MB
    "/usr/lib/x86_64-linux-gnu/libicudata*", "/usr/lib/x86_64-linux-gnu/libicui18n*",
    # disks of a target are never assembled or activated unasked
    "/lib/udev/rules.d/*-lvm.rules", "/lib/udev/rules.d/64-md-raid-assembly.rules",
    "/usr/lib/udev/rules.d/*-lvm.rules", "/usr/lib/udev/rules.d/64-md-raid-assembly.rules",
)  # fmt: skip

DPKG_INCLUDES = (
    # hivex reads and writes names in these; without them it says that a file is bad
    "/usr/lib/x86_64-linux-gnu/gconv/UTF-16.so", "/usr/lib/x86_64-linux-gnu/gconv/ISO8859-1.so",
    "/usr/lib/x86_64-linux-gnu/gconv/gconv-modules*",
)  # fmt: skip
"""Of what is left out."""

MODULE_EXCLUDES = (
    "sound", "drivers/gpu", "drivers/media", "drivers/staging", "drivers/bluetooth",
    "drivers/net/wireless", "drivers/net/can", "drivers/net/wwan", "drivers/isdn", "drivers/iio",
    "drivers/infiniband", "drivers/comedi", "drivers/hwmon", "drivers/leds", "drivers/gnss",
    "drivers/usb/gadget", "drivers/usb/serial", "drivers/usb/misc", "drivers/usb/atm",
    "drivers/input/joystick", "drivers/input/touchscreen", "drivers/input/tablet",
    "drivers/mtd", "drivers/power", "drivers/rtc", "drivers/watchdog", "drivers/platform",
    "drivers/atm", "drivers/crypto", "drivers/target", "drivers/vhost", "drivers/accel",
    "net/bluetooth", "net/wireless", "net/mac80211", "net/netfilter", "net/sched", "net/can",
    "net/ipv4/netfilter", "net/ipv6/netfilter", "net/openvswitch", "net/sctp", "net/tipc",
    "net/atm", "net/ax25", "net/sunrpc", "net/batman-adv", "net/ceph", "net/rxrpc",
    "fs/nfs", "fs/nfsd", "fs/ceph", "fs/cifs", "fs/smb", "fs/ocfs2", "fs/gfs2", "fs/afs",
    "fs/dlm", "fs/orangefs", "fs/9p", "fs/coda", "fs/lockd", "arch/x86/kvm",
)  # fmt: skip

LIVE_MODULES = (
    # where a medium can be: CD drives, USB sticks, disks
    "ahci", "ata_piix", "ata_generic", "pata_acpi", "nvme", "virtio_pci", "virtio_blk",
    "virtio_scsi", "sd_mod", "sr_mod", "usb_storage", "uas", "xhci_pci", "ehci_pci", "uhci_hcd",
    "ohci_pci", "usbhid", "hid_generic", "mptspi", "mptsas", "megaraid_sas", "mpt3sas", "aacraid",
    "smartpqi", "vmw_pvscsi", "hv_storvsc", "hv_vmbus", "isofs", "loop", "squashfs", "overlay",
)  # fmt: skip

APPLIANCE_MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "squashfs", "overlay")

MEDIUM_LABEL = "NOTFALL"
SQUASHFS_NAME = "notfall.squashfs"
PROGRAM_PACKAGES = ("wire", "guest", "rescue")

HERE = Path(__file__).parent


def fingerprint() -> str:
    """Names squashfs and initrds by all that goes into them."""
    parts = [SUITE, KERNEL_PACKAGE, *PACKAGES, *DPKG_EXCLUDES, *DPKG_INCLUDES, *MODULE_EXCLUDES]
    parts += [*LIVE_MODULES, *APPLIANCE_MODULES]
    scripts = ("customize.sh", "init-live.sh", "init-appliance.sh")
    told = "\n".join(parts) + "".join((HERE / one).read_text() for one in scripts)
    return sha256(told.encode()).hexdigest()[:16]
