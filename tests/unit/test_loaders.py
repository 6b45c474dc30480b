"""By which firmware a copy can start: only what is there counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from notfallserver.guest.facts import Esp, System, Volume
from notfallserver.guest.loaders import boots_by

GRUB = "boot/grub/i386-pc/normal.mod"
FALLBACK = ("efi/boot/bootx64.efi",)
VENDOR = ("efi/debian/grubx64.efi", "efi/debian/shimx64.efi")


@pytest.mark.parametrize(
    ("code", "modules", "esp", "told"),
    [
        ("grub", True, (), ("bios",)),
        ("grub", True, FALLBACK, ("bios", "uefi")),
        ("grub", False, VENDOR, ("uefi",)),  # left over from another time
        ("broken", True, VENDOR, ("uefi",)),
        ("other", True, (), ()),
        ("none", True, ("efi/debian/fbx64.efi", "grubx64.efi"), ()),
    ],
)
def test_both_loaders_must_be_whole(
    tmp_path: Path, code: str, modules: bool, esp: tuple[str, ...], told: tuple[str, ...]
) -> None:
    if modules:
        (tmp_path / GRUB).parent.mkdir(parents=True)
        (tmp_path / GRUB).touch()
    volume = Volume("/dev/vda1")
    system = System(
        *("Debian", volume, (volume,), {}),
        esp=(Esp(volume, "/boot/efi", esp),) if esp else (),
        boot_code=(code, "none"),
    )
    assert boots_by(system, tmp_path) == told
