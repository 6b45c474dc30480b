"""Disks laid out as a Windows' own, with real hives: nothing of them starts, all of it can be read.

One by UEFI (EFI system partition and Windows 10), one by BIOS (active partition and Windows 7).
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from notfall_lab import windows_image
from notfall_lab.guest_tree import loop_part
from notfall_lab.hives import unpack
from notfall_lab.windows.played import BASIC, ESP, Part, Played
from notfall_lab.windows.scene import TOOLS, tool

MIB = 1 << 20
ESP_AT, NTFS_AT, NTFS_END, SIZE = 1 * MIB, 49 * MIB, 169 * MIB, 171 * MIB
IDENTITY = "7e6c1d60-3f1d-4b5a-9a52-2b3c0a6f6e01"
OWN_ESP = IDENTITY[:-1] + "2"
OWN_NTFS = "09931f21-7faf-44a9-81d8-1e73c14b9eaf"
"""As the hive of Windows 10 knows its drive C:."""
GPT = f"""label: gpt
label-id: {IDENTITY}
start={ESP_AT // 512}, size={(NTFS_AT - ESP_AT) // 512}, type={ESP}, uuid={OWN_ESP}
start={NTFS_AT // 512}, size={(NTFS_END - NTFS_AT) // 512}, type={BASIC}, uuid={OWN_NTFS}
"""
SIGNATURE = 0x5CBEA03E
"""As the hive of Windows 7 knows it."""
MBR = f"""label: dos
label-id: {SIGNATURE:#x}
start={NTFS_AT // 512}, size={(NTFS_END - NTFS_AT) // 512}, type=7, bootable
"""


@dataclass(frozen=True)
class Bootable:
    """``played``: what its Windows would say of it."""

    image: Path
    played: Played


def uefi_ten(folder: Path, mac: str) -> Bootable:
    """Windows 10 of a Dell: its hive's logs are not replayed, its disks hung on Intel's RAID."""
    image = _disk(folder, GPT)
    esp = f"{image}@@{ESP_AT}"
    tool("mformat", "-i", esp, "-T", (NTFS_AT - ESP_AT) // 512, "-h", 16, "-s", 32, "-F")
    for name in ("::EFI", "::EFI/Microsoft", "::EFI/Microsoft/Boot"):
        tool("mmd", "-i", esp, name)
    loader = folder / "bootmgfw.efi"
    loader.write_bytes(b"MZ loader")
    for one in (loader, unpack("BCD", folder)):
        tool("mcopy", "-i", esp, one, "::EFI/Microsoft/Boot")
    _fill(image, folder, windows_image.ten)
    parts = [
        Part(ESP, OWN_ESP, ESP_AT, NTFS_AT - ESP_AT, "FAT32", ""),
        Part(BASIC, OWN_NTFS, NTFS_AT, NTFS_END - NTFS_AT, "NTFS", "C:\\"),
    ]
    system = ("Windows 10 Pro", "6.3", "16299")
    return Bootable(
        image, Played(SIZE, "uefi", IDENTITY, parts, "wks", mac, "198.51.100.10/24", "", system)
    )


def bios_seven(folder: Path, mac: str) -> Bootable:
    """Windows 7 of a VMware machine."""
    image = _disk(folder, MBR)
    with image.open("r+b") as raw:
        raw.write(b"\xeb\x63")  # code to start with; sfdisk leaves none

    def fill(root: Path) -> Path:
        (root / "bootmgr").write_bytes(b"MZ manager")
        (root / "Boot").mkdir()
        unpack("BCD", root / "Boot")
        return windows_image.seven(root)

    _fill(image, folder, fill)
    parts = [Part("7", "", NTFS_AT, NTFS_END - NTFS_AT, "NTFS", "C:\\")]
    system = ("Windows 7 Professional", "6.1", "7601")
    return Bootable(
        image,
        Played(
            SIZE, "bios", f"{SIGNATURE:x}", parts, "shop", mac, "10.3.58.5/24", "10.3.58.1", system
        ),
    )


def _disk(folder: Path, table: str) -> Path:
    image = folder / "disk.raw"
    with image.open("wb") as file:
        file.truncate(SIZE)
    line = ["sfdisk", "--quiet", str(image)]
    subprocess.run(line, input=table, text=True, check=True, env=TOOLS, timeout=60)
    return image


def _fill(image: Path, folder: Path, fill: Callable[[Path], Path]) -> None:
    with loop_part(image, NTFS_AT, NTFS_END - NTFS_AT) as device:
        tool("mkntfs", "-Q", "-F", "-q", "-p", NTFS_AT // 512, "-H", 16, "-S", 63, device)
    with windows_of(image, folder) as root:
        fill(root)


@contextmanager
def windows_of(image: Path, folder: Path, options: str = "rw") -> Iterator[Path]:
    """C: of such a disk, mounted in ``folder``."""
    place = folder / "place"
    place.mkdir(exist_ok=True)
    with loop_part(image, NTFS_AT, NTFS_END - NTFS_AT, options == "ro") as device:
        tool("ntfs-3g", "-o", options, device, place)
        try:
            yield place
        finally:
            tool("umount", place)
