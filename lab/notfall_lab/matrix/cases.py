"""The cases: every value of every kind at least once, and the pairs that are known to be risky."""

from __future__ import annotations

from notfall_lab.matrix.case import Case

CASES = (
    # Debian 12, initramfs-tools, dep: from the usual virtual disk to each controller
    Case("b12-virtio-sata", root="device", fstab="device", odd=("back",)),
    Case("b12-virtio-nvme", target="nvme", table="gpt", role="primary", card="e1000e"),
    Case("b12-virtio-megasas", target="megasas", network="ifupdown-dhcp", role="primary"),
    Case("b12-virtio-mptsas", target="mptsas", fstab="label", root="label"),
    Case("b12-virtio-scsi", target="scsi", fstab="partuuid", root="partuuid", network="networkd"),
    Case("b12-virtio-pvscsi", target="pvscsi", network="eth0", card="e1000"),
    # ... and from there to virtual disks
    Case("b12-sata-virtio", source="sata", target="virtio", fstab="device", root="device"),
    Case("b12-nvme-virtio", source="nvme", target="virtio", fstab="device", root="device",
         table="gpt", network="nm"),
    Case("b12-megasas-sata", source="megasas", target="sata", boot=True, fstab="device",
         odd=("back",)),
    Case("b12-ide-virtio", source="ide", target="virtio", network="udev-rules"),
    Case("b12-most-ide", initramfs="most", source="sata", target="ide", network="networkd-mac",
         role="primary", card="e1000"),
    # UEFI
    Case("b12-uefi-nvme", firmware="uefi", table="gpt", target="nvme", network="networkd-bond"),
    Case("b12-uefi-entry-lost", firmware="uefi", table="gpt", target="sata", odd=("entry-lost",),
         network="netplan", role="primary"),
    Case("b12-secure-boot", firmware="secure", table="gpt", target="nvme", odd=("entry-lost",)),
    # from one firmware to the other, with the boot loaders of both
    Case("b12-bios-to-uefi", then="uefi", table="gpt", target="nvme", role="primary",
         network="networkd-mac"),
    Case("b12-uefi-to-bios", firmware="uefi", then="bios", table="gpt", target="sata",
         role="primary"),
    Case("d13-secure-boot", suite="trixie", firmware="secure", table="gpt", target="sata",
         initramfs="dracut", network="networkd"),
    # filesystems
    Case("b12-xfs", filesystem="xfs", target="nvme", network="nm-mac", role="primary"),
    Case("d13-xfs", suite="trixie", filesystem="xfs", target="sata", network="networkd-vlan"),
    Case("b12-btrfs", filesystem="btrfs", target="sata", fstab="device"),
    Case("d13-btrfs-uefi", suite="trixie", filesystem="btrfs", firmware="uefi", table="gpt",
         target="scsi", network="netplan"),
    # layers
    Case("b12-lvm", stack="lvm", fstab="mapper", root="mapper", target="megasas",
         network="ifupdown-bridge"),
    Case("d13-lvm-boot", suite="trixie", stack="lvm", boot=True, fstab="mapper", root="mapper",
         target="nvme", network="networkd"),
    Case("b12-raid", stack="raid", target="sata", network="ifupdown-vlan"),
    Case("b12-raid-uefi", stack="raid", firmware="uefi", table="gpt", target="nvme"),
    Case("b12-luks", stack="luks", target="virtio", root="mapper", fstab="device"),
    Case("b12-luks-lacks-driver", stack="luks", target="sata", root="mapper", fstab="mapper",
         refused="driver-locked"),
    Case("b12-luks-most", stack="luks", initramfs="most", source="sata", target="nvme",
         root="mapper", fstab="mapper", role="primary", network="networkd-mac"),
    Case("b12-luks-lvm-screen", stack="luks-lvm", source="sata", target="sata", root="mapper",
         fstab="mapper", odd=("screen",)),
    # dracut, hostonly
    Case("b12-dracut-nvme", initramfs="dracut", target="nvme"),
    Case("b12-dracut-lvm", initramfs="dracut", stack="lvm", fstab="mapper", root="mapper",
         target="megasas"),
    Case("b12-dracut-raid", initramfs="dracut", stack="raid", target="sata"),
    Case("d13-dracut-btrfs", suite="trixie", initramfs="dracut", filesystem="btrfs",
         source="sata", target="virtio", network="nm"),
    Case("d13-dracut-luks", suite="trixie", initramfs="dracut", stack="luks", source="nvme",
         target="nvme", root="mapper", fstab="mapper", firmware="uefi", table="gpt"),
    # the other releases
    Case("d13-virtio-mptsas", suite="trixie", target="mptsas", network="ifupdown-dhcp"),
    Case("d13-most-virtio", suite="trixie", initramfs="most", source="megasas", target="virtio",
         network="nm", role="primary"),
    Case("d11-virtio-sata", suite="bullseye", target="sata", fstab="device", root="device"),
    Case("d11-dracut-nvme", suite="bullseye", initramfs="dracut", target="nvme",
         network="networkd"),
    Case("d11-lvm-uefi", suite="bullseye", stack="lvm", firmware="uefi", table="gpt",
         fstab="mapper", root="mapper", target="scsi", network="networkd-bond", role="primary"),
    # oddities
    Case("b12-serial-only", target="sata", odd=("serial",)),
    Case("b12-boot-code-lost", target="sata", odd=("boot-code-lost",)),
    Case("b12-boot-full", target="nvme", odd=("boot-full",)),
)  # fmt: skip
