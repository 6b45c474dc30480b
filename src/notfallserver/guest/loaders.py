"""By which firmware a system can start as it is. Reads the image, writes nothing.

A machine that is recovered may have another firmware than the original. That is promised only where
both boot loaders are there: one that would have to be installed in the switch-back is no promise.
"""

from __future__ import annotations

from pathlib import Path
from typing import List, Sequence, Tuple

from notfallserver.guest.facts import System
from notfallserver.guest.paths import inside
from notfallserver.guest.plan import FALLBACK_LOADER

_VENDORS = ("shimx64.efi", "grubx64.efi", "systemd-bootx64.efi")
_GRUB = ("/boot/grub/i386-pc/normal.mod", "/boot/grub2/i386-pc/normal.mod")


def boots_by(system: System, root: Path) -> Tuple[str, ...]:
    """``bios``, ``uefi`` or both."""
    found: List[str] = []
    if "grub" in system.boot_code and any(inside(root, one).is_file() for one in _GRUB):
        found.append("bios")
    if any(_starts(esp.files) for esp in system.esp):
        found.append("uefi")
    return tuple(found)


def _starts(files: Sequence[str]) -> bool:
    return FALLBACK_LOADER in files or any(
        one.startswith("efi/") and one.rsplit("/", 1)[-1] in _VENDORS for one in files
    )
