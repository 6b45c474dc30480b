"""A small guest that starts from its own disk within seconds: BIOS, GRUB, kernel, one program.

For what depends on a machine that starts, has addresses and serves a port, but not on a whole
system in it. It needs no adaptation: kernel and cards are those that stand-ins have.
"""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notfall_lab.kernels import PROGRAMS, kernel_guest
from notfallserver.server.host.run import run
from notfallserver.wire.report import SystemReport

SIZE = 32 << 20
_START = 1 << 20
_BUSYBOX = Path("/bin/busybox")  # of the package busybox-static
_GRUB = Path("/usr/lib/grub/i386-pc")
_MODULES = (
    *("virtio.ko", "virtio_ring.ko", "virtio_pci_modern_dev.ko", "virtio_pci_legacy_dev.ko"),
    *("virtio_pci.ko", "failover.ko", "net_failover.ko", "virtio_net.ko"),
)
_EARLY = """set root=(hd0,msdos1)
linux /vmlinuz console=ttyS0 console=tty0 quiet panic=-1 mitigations=off
initrd /initrd
boot
"""


@dataclass(frozen=True)
class SmallGuest:
    """``address`` and ``address6`` with prefix length; ``server`` is whom it calls.

    ``leased``: it gets ``address`` by DHCP.
    """

    name: str
    mac: str
    address: str
    address6: str
    gateway: str
    port: int
    server: tuple[str, int]
    leased: bool = False

    def facts(self) -> dict[str, Any]:
        """What its agent would tell of it."""
        partition = {"number": 1, "start": _START, "size": SIZE - _START, "mountpoint": "/boot"}
        card = {"name": "eth0", "mac": self.mac, "driver": "virtio_net"}
        return {
            "hostname": self.name,
            "system": "Debian GNU/Linux",
            "memory": 192 << 20,
            "gateway": self.gateway,
            "ports": [self.port],
            "disks": [
                {
                    "name": "vda",
                    "size": SIZE,
                    "driver": "virtio_blk",
                    "table": "dos",
                    "partitions": [partition],
                }
            ],
            "nics": [
                {
                    **card,
                    "addresses": [self.address, self.address6],
                    "leased": [self.address] if self.leased else [],
                }
            ],
        }

    def make_disk(self, directory: Path) -> Path:
        """Its disk as a raw file in ``directory``."""
        kernel = kernel_guest("bookworm")
        _make_initrd(self, kernel.root, directory)
        early, core = directory / "early.cfg", directory / "core.img"
        early.write_text(_EARLY)
        options = ["-O", "i386-pc", "-p", "/", "-c", str(early), "-o", str(core)]
        run(["grub-mkimage", *options, "biosdisk", "part_msdos", "fat", "linux", "normal"])
        disk = directory / f"{self.name}.raw"
        with disk.open("wb") as stream:
            stream.write((_GRUB / "boot.img").read_bytes() + core.read_bytes())
            stream.truncate(SIZE)
        run(["sfdisk", "--quiet", disk], text_in=f"label: dos\nstart={_START >> 9}, type=c\n")
        place = f"{disk}@@{_START}"
        run(["mformat", "-i", place, "-T", str((SIZE - _START) >> 9), "-h", "16", "-s", "32"])
        for name, file in (("vmlinuz", kernel.kernel), ("initrd", directory / "initrd")):
            run(["mcopy", "-i", place, file, f"::{name}"])
        return disk

    def make_disk_like(self, built: Path, other: str, directory: Path) -> Path:
        """Its disk in ``directory``, from that of the guest ``other``, made in ``built``: quicker,
        because only what the guest is told differs."""
        tree, disk = directory / "tree", directory / f"{self.name}.raw"
        tree.mkdir()
        _write_settings(self, tree)
        added = "cpio --quiet -o -H newc -R 0:0 | gzip -1"  # the kernel unpacks one after the other
        line = f"(cat {shlex.quote(str(built))}/initrd; {added}) > {shlex.quote(str(directory))}"
        run(["sh", "-c", f"{line}/initrd"], text_in="settings\n", cwd=tree)
        shutil.copyfile(built / f"{other}.raw", disk)
        run(["mcopy", "-o", "-i", f"{disk}@@{_START}", directory / "initrd", "::initrd"])
        return disk


def _make_initrd(guest: SmallGuest, root: Path, directory: Path) -> None:
    tree = directory / "tree"
    patterns = [f"usr/lib/modules/*/kernel/*/{one}" for one in _MODULES]
    patterns += [f"usr/lib/modules/*/kernel/*/*/{one}" for one in _MODULES]
    run(["unsquashfs", "-quiet", "-no-progress", "-d", directory / "system", root, *patterns])
    (tree / "modules").mkdir(parents=True)
    for module in _MODULES:
        (found,) = directory.glob(f"system/usr/lib/modules/*/kernel/**/{module}")
        shutil.copyfile(found, tree / "modules" / module)
    shutil.rmtree(directory / "system")
    shutil.copy(_BUSYBOX, tree / "busybox")
    for name in ("init", "lease"):
        shutil.copy(PROGRAMS / f"small-{name}.sh", tree / name)
        (tree / name).chmod(0o755)
    _write_settings(guest, tree)
    files = "".join(f"{one.relative_to(tree)}\n" for one in sorted(tree.rglob("*")))
    archive = f"cpio --quiet -o -H newc -R 0:0 | gzip -1 > {shlex.quote(str(directory))}/initrd"
    run(["sh", "-c", archive], text_in=files, cwd=tree)


def _write_settings(guest: SmallGuest, tree: Path) -> None:
    settings = {
        "NAME": guest.name,
        "MODULES": " ".join(_MODULES),
        "ADDRESS": "" if guest.leased else guest.address,
        "ADDRESS6": guest.address6,
        "GATEWAY": guest.gateway,
        "PORT": str(guest.port),
        "REPORT": SystemReport("running", (), True).line(),  # as its agent would
        "SERVER": guest.server[0],
        "SERVER_PORT": str(guest.server[1]),
    }
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in settings.items()]
    (tree / "settings").write_text("".join(lines))
