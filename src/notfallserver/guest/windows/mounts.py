"""Finds and mounts the Windows of an image, and says by which firmware it starts."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Iterator, List, Optional, Sequence, Tuple

from notfallserver.guest.facts import Esp, Volume
from notfallserver.guest.mounts import mounted
from notfallserver.guest.plan import Warning
from notfallserver.guest.windows.ntfs import ready_volume
from notfallserver.guest.windows.places import CONFIG, files_below, find
from notfallserver.guest.windows.plan import FALLBACK_LOADER, LOADER
from notfallserver.wire.errors import NotfallError

NTFS = "ntfs"
BITLOCKER = "BitLocker"
"""As blkid calls it."""
FAT = "vfat"
DYNAMIC = ("0x42", "af9b60a0-1431-4f62-bc68-3311714a69ad")
"""Kinds of partitions that belong to Windows' own volume manager."""
_MANAGERS = ("bootmgr", "ntldr")


@dataclass(frozen=True)
class MountedWindows:
    """``root`` and ``esp`` are directories of ours; ``loaders`` is what the plan is told of the
    ESP."""

    root: Path
    volume: Volume
    esp: Optional[Path]
    loaders: Optional[Esp]
    boots_by: Tuple[str, ...]
    warnings: Tuple[Warning, ...] = ()


def windows_volume(volumes: Sequence[Volume]) -> Optional[Volume]:
    """The first volume that holds a Windows."""
    base = Path(mkdtemp(prefix="windows-"))
    try:
        found = next((one for one in volumes if _holds_windows(one, base)), None)
    finally:
        base.rmdir()
    if any(one.kind.lower() in DYNAMIC for one in ([found] if found else volumes)):
        raise NotfallError(
            "windows-dynamic-disk",
            "Windows keeps its drive on dynamic disks, perhaps as a mirror: a change in one half "
            "of a mirror would damage it, so nothing is changed.",
            "Make the disk of Windows a basic one, without a mirror, and replicate again.",
        )
    if found is None and any(one.filesystem == BITLOCKER for one in volumes):
        raise NotfallError(
            "windows-encrypted",
            "The Windows drive in the image is encrypted with BitLocker: nothing in it can be "
            "adapted.",
            "Switch BitLocker off for that drive of the primary, wait until it is decrypted, and "
            "replicate again.",
        )
    return found


def _holds_windows(volume: Volume, base: Path) -> bool:
    if volume.filesystem != NTFS:
        return False
    try:
        with mounted(volume, base, writable=False):
            return find(base, f"{CONFIG}/SYSTEM").is_file()
    except NotfallError:
        return False  # damaged, or somebody's data: the next may be the one


@contextmanager
def mounted_windows(
    volume: Volume, volumes: Sequence[Volume], disks: Sequence[str], writable: bool = True
) -> Iterator[MountedWindows]:
    """``volume`` as :func:`windows_volume` found it; ``disks`` in the order of the image."""
    warnings = tuple(ready_volume(volume.device)) if writable else ()
    base = Path(mkdtemp(prefix="windows-"))
    with ExitStack() as stack:
        stack.callback(_remove, base)
        root = stack.enter_context(mounted(volume, base / "c", writable))
        esp, loaders = None, None
        for one in volumes:
            if one.filesystem != FAT or loaders is not None:
                continue
            with mounted(one, base / "esp", writable=False) as where:
                files = files_below(where)
            if LOADER in files or FALLBACK_LOADER in files:
                esp = stack.enter_context(mounted(one, base / "esp", writable))
                loaders = Esp(one, "", tuple(one for one in files if one.startswith("efi/")))
        boots = [] if loaders is None else ["uefi"]
        if _starts_by_bios(volume, root, volumes, disks, base / "boot"):
            boots.insert(0, "bios")
        yield MountedWindows(root, volume, esp, loaders, tuple(boots), warnings)


def active_partition(sector: bytes) -> int:
    """Of an MBR that has boot code; 0 where there is none."""
    if len(sector) < 512 or sector[510:512] != b"\x55\xaa" or not any(sector[:440]):
        return 0
    active = [number for number in range(4) if sector[446 + 16 * number] == 0x80]
    return active[0] + 1 if active else 0


def _starts_by_bios(
    windows: Volume, root: Path, volumes: Sequence[Volume], disks: Sequence[str], where: Path
) -> bool:
    for number, disk in enumerate(disks):
        with open(disk, "rb") as raw:
            active = active_partition(raw.read(512))
        found = [one for one in volumes if (one.disk, one.partition) == (number, active)]
        if not active or not found or found[0].filesystem not in ("ntfs", FAT):
            continue
        if found[0] == windows:
            if _has_manager(root):
                return True
            continue
        with mounted(found[0], where, writable=False):
            if _has_manager(where):
                return True
    return False


def _has_manager(folder: Path) -> bool:
    names: List[str] = [one.name.lower() for one in folder.iterdir()]
    return any(one in names for one in _MANAGERS)


def _remove(base: Path) -> None:
    """What is still in use stays: why it is tells the error that is under way."""
    with suppress(OSError):
        for name in ("c", "esp", "boot"):
            if (base / name).is_dir():
                (base / name).rmdir()
        base.rmdir()
