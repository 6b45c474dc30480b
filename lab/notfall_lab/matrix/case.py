"""One case of the matrix: a system as it was installed, and the hardware it shall boot on."""

from __future__ import annotations

from dataclasses import dataclass

PASSPHRASE = "correct horse"
"""Of the encrypted roots."""

DRIVERS = {
    "virtio": ("virtio_blk", "virtio_pci"),
    "sata": ("ahci", "sd_mod"),
    "ide": ("ata_piix", "sd_mod"),
    "nvme": ("nvme",),
    "scsi": ("virtio_scsi", "virtio_pci", "sd_mod"),
    "megasas": ("megaraid_sas", "sd_mod"),
    "mptsas": ("mptsas", "sd_mod"),
    "pvscsi": ("vmw_pvscsi", "sd_mod"),
}
"""The modules that a machine with such disks loads for them, the controller's first."""
CARD_DRIVERS = {"virtio-net-pci": "virtio_net", "e1000e": "e1000e", "e1000": "e1000"}


@dataclass(frozen=True)
class Case:
    """Values are words, see the fields; ``name`` is also the hostname."""

    name: str
    suite: str = "bookworm"  # bullseye, bookworm, trixie
    firmware: str = "bios"  # bios, uefi, secure (UEFI with Secure Boot)
    then: str = ""  # the target's firmware where it is another; both boot loaders are there
    table: str = "dos"  # dos, gpt
    initramfs: str = "dep"  # most, dep (initramfs-tools), dracut (hostonly)
    filesystem: str = "ext4"  # ext4, xfs, btrfs (in a subvolume)
    stack: str = "plain"  # plain, lvm, raid, luks, luks-lvm
    boot: bool = False  # a /boot of its own
    source: str = "virtio"
    target: str = "sata"
    role: str = "stand-in"  # stand-in: same cards; primary: other cards
    fstab: str = "uuid"  # uuid, label, device, mapper, partuuid
    root: str = "uuid"  # root= on the kernel's line: uuid, label, device, mapper, partuuid
    network: str = "ifupdown"  # see networks.py
    card: str = "virtio-net-pci"  # of the target
    onto: str = ""  # recovered to disks that are larger (and grown), smaller, or to one for all
    refused: str = ""  # the plan or the adaptation must refuse it with this code, in words
    odd: tuple[str, ...] = ()
    """serial: GRUB and kernel on the serial line only. entry-lost: no loader at the fallback place.
    boot-code-lost: MBR without GRUB. boot-full: hardly any room in /boot. screen: the key is typed
    on the screen. back: afterwards adapted to the old hardware again and booted there.
    data: a second disk with a filesystem that fstab mounts, named as ``fstab`` says.
    swaps: each disk of the mirror has swap of its own."""

    @property
    def encrypted(self) -> bool:
        return self.stack.startswith("luks")

    @property
    def disks(self) -> int:
        return 2 if self.stack == "raid" or "data" in self.odd else 1

    @property
    def apart(self) -> bool:
        """Whether /boot is a filesystem of its own: an encrypted root always needs one."""
        return self.boot or self.encrypted or "boot-full" in self.odd

    @property
    def tool(self) -> str:
        return "dracut" if self.initramfs == "dracut" else "initramfs-tools"

    @property
    def target_firmware(self) -> str:
        return self.then or self.firmware

    @property
    def uefi(self) -> bool:
        """Whether it has an ESP and a loader on it."""
        return {self.firmware, self.then} - {"", "bios"} != set()

    @property
    def bios(self) -> bool:
        """Whether it has boot code for BIOS."""
        return "bios" in (self.firmware, self.then)

    def disk_name(self, number: int = 0) -> str:
        """What the original calls its disk."""
        if self.source == "nvme":
            return f"nvme{number}n1"
        letter = "ab"[number]
        return f"vd{letter}" if self.source == "virtio" else f"sd{letter}"

    def part_name(self, part: int) -> str:
        disk = self.disk_name()
        return f"/dev/{disk}p{part}" if disk[-1].isdigit() else f"/dev/{disk}{part}"
