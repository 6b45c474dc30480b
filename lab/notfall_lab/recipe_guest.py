"""What makes a plain Debian tree into one of the lab's guests: names, network, services.

Works on a mounted tree with ``chroot``; knows nothing of partitions (:mod:`recipe_disk`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from notfall_lab.cache import FILES
from notfall_lab.guest_tree import chroot, write_file

ROOT_PASSWORD = "notfall"
PREFIX = 24
GATEWAY = "10.77.0.254"
PGDATA = "/var/lib/postgresql/15/main"
MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer"),
    *("e2scrub_all.timer", "e2scrub_reap.service", "systemd-networkd-wait-online.service"),
    *("systemd-binfmt.service", "systemd-pstore.service"),
)
# Only what a machine with virtio disks needs, as MODULES=dep would choose on such a machine (which
# cannot be asked while the image is made): other disk controllers need an adapted initrd.
INITRD_MODULES = ("virtio_pci", "virtio_blk", "ext4")


@dataclass(frozen=True)
class Recipe:
    """A guest; ``network`` is who configures it: "ifupdown" or "networkd"."""

    name: str
    firmware: str  # bios or uefi
    host: int  # last byte of the addresses
    network: str
    nic: str = "enp0s3"  # the name udev gives to the card in slot 3 of our machines

    @property
    def address(self) -> str:
        return f"10.77.0.{self.host}"

    @property
    def address6(self) -> str:
        return f"fd77::{self.host:x}"

    @property
    def mac(self) -> str:
        return f"52:54:00:77:00:{self.host:02x}"


BIOS = Recipe("shop", "bios", 10, "ifupdown")
UEFI = Recipe("depot", "uefi", 20, "networkd")


def furnish(tree: Path, recipe: Recipe) -> None:
    """Everything but fstab, boot loader and initrd."""
    write_file(tree / "etc/hostname", recipe.name)
    write_file(tree / "etc/hosts", f"127.0.0.1 localhost\n{recipe.address} {recipe.name}")
    write_file(tree / "etc/initramfs-tools/conf.d/lab", "MODULES=dep\nCOMPRESS=lz4\nRESUME=none")
    write_file(tree / "etc/systemd/journald.conf.d/lab.conf", "[Journal]\nStorage=volatile")
    write_file(tree / "etc/systemd/system.conf.d/lab.conf", "[Manager]\nDefaultTimeoutStopSec=15s")
    chroot(tree, "systemd-machine-id-setup")
    chroot(tree, "chpasswd", text_in=f"root:{ROOT_PASSWORD}\n")
    chroot(tree, "systemctl", "mask", *MASKED)
    configure_network(tree, recipe)
    _install_services(tree)


def make_initrd(tree: Path) -> None:
    """The initrd of a machine with virtio disks; afterwards the setting is Debian's ``dep``."""
    write_file(tree / "etc/initramfs-tools/modules", "\n".join(INITRD_MODULES))
    policy = tree / "etc/initramfs-tools/update-initramfs.conf"
    write_file(policy, "update_initramfs=yes\nbackup_initramfs=no")
    setting = tree / "etc/initramfs-tools/conf.d/lab"
    final = setting.read_text()
    write_file(setting, final.replace("MODULES=dep", "MODULES=list"))
    chroot(tree, "update-initramfs", "-c", "-k", "all")
    write_file(setting, final)
    write_file(tree / "etc/initramfs-tools/modules", "")


def configure_network(tree: Path, recipe: Recipe) -> None:
    write_file(tree / "etc/resolv.conf", f"nameserver {GATEWAY}")
    if recipe.network == "networkd":
        write_file(
            tree / "etc/systemd/network/10-lan.network",
            f"[Match]\nName={recipe.nic}\n\n[Network]\nAddress={recipe.address}/{PREFIX}\n"
            f"Address={recipe.address6}/64\nGateway={GATEWAY}\nIPv6AcceptRA=no",
        )
        chroot(tree, "systemctl", "disable", "networking.service")
        chroot(tree, "systemctl", "enable", "systemd-networkd.service")
    else:
        write_file(
            tree / "etc/network/interfaces",
            f"auto lo\niface lo inet loopback\n\nallow-hotplug {recipe.nic}\n"
            f"iface {recipe.nic} inet static\n\taddress {recipe.address}/{PREFIX}\n"
            f"\tgateway {GATEWAY}\n\n"
            f"iface {recipe.nic} inet6 static\n\taddress {recipe.address6}/64\n"
            "\taccept_ra 0\n\tdad-attempts 0",
        )


def _install_services(tree: Path) -> None:
    for name in ("lab-shell.py", "shop.py"):
        write_file(tree / "usr/local/lib" / name, (FILES / name).read_text())
    for name in ("lab-shell.service", "shop.service"):
        write_file(tree / "etc/systemd/system" / name, (FILES / name).read_text())
        chroot(tree, "systemctl", "enable", name)
    chroot(tree, "useradd", "--system", "--no-create-home", "shop")
    chroot(tree, "install", "-d", "-o", "shop", "-g", "shop", "/var/lib/shop")
    write_file(
        tree / "etc/postgresql/15/main/conf.d/lab.conf",
        (FILES / "postgresql-lab.conf").read_text(),
    )
    _sql(tree, "postgres", "CREATE ROLE shop LOGIN;\nCREATE DATABASE shop OWNER shop;\n")
    _sql(tree, "shop", (FILES / "shop.sql").read_text())


def _sql(tree: Path, database: str, statements: str) -> None:
    """Statements of one line each, by PostgreSQL's single-user mode: no server has to run."""
    server = "/usr/lib/postgresql/15/bin/postgres --single"
    files = f"-D {PGDATA} -c config_file=/etc/postgresql/15/main/postgresql.conf"
    stop = "-c exit_on_error=on"
    command = ["su", "postgres", "-s", "/bin/sh", "-c", f"{server} {files} {stop} {database}"]
    chroot(tree, *command, text_in=statements)
