"""Mounts the system of an image as it mounts itself: root first, then what its fstab names."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Dict, Iterator, List, Sequence, Tuple

from notfallserver.guest.facts import Volume
from notfallserver.guest.names import DeviceNames
from notfallserver.guest.paths import inside, read_text
from notfallserver.guest.shell import run
from notfallserver.guest.subvolumes import root_options
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

DATA_FILESYSTEMS = ("ext2", "ext3", "ext4", "xfs", "btrfs", "vfat", "ntfs", "exfat", "f2fs", "jfs")
SYSTEM_MOUNTS = ("/boot", "/boot/efi", "/efi", "/usr", "/var", "/usr/share")


@dataclass(frozen=True)
class MountedSystem:
    """``mounts``: mount point in the guest -> volume; ``root`` is a directory of ours.

    ``locked``: the root is encrypted and is not among the mounts; only what lies outside is.
    """

    root: Path
    mounts: Dict[str, Volume]
    locked: bool = False


@contextmanager
def mounted(volume: Volume, where: Path, writable: bool, options: str = "") -> Iterator[Path]:
    """One volume at ``where``. Read-only never replays a journal: nothing is written at all."""
    where.mkdir(parents=True, exist_ok=True)
    kind = "ntfs3" if volume.filesystem == "ntfs" else volume.filesystem
    mode = "rw" if writable else "ro"
    if not writable and kind in ("ext3", "ext4"):
        mode += ",noload"
    if kind == "xfs":
        mode += ",nouuid" if writable else ",nouuid,norecovery"
    if options:
        mode += f",{options}"
    if volume.filesystem == "ntfs":
        run(["ntfs-3g", "-o", mode, volume.device, str(where)])
    else:
        run(["mount", "-t", kind, "-o", mode, volume.device, str(where)])
    try:
        yield where
    finally:
        run(["umount", str(where)], ok=(0, 32))


@contextmanager
def mounted_system(
    volumes: Sequence[Volume], original: Machine, writable: bool = True
) -> Iterator[MountedSystem]:
    """The first system found on the volumes; of a locked one /boot and the ESP."""
    base = Path(mkdtemp(prefix="guest-"))
    with ExitStack() as stack:
        try:
            root, options = _find_root(volumes, base)
        except NotfallError as error:
            encrypted = any(one.filesystem == "crypto_LUKS" for one in volumes)
            if error.code != "no-system" or not encrypted:
                raise
            outside = _outside(volumes, base)
            for point, part in outside.items():
                stack.enter_context(mounted(part, base / point.lstrip("/"), writable))
            yield MountedSystem(base, outside, locked=True)
            stack.close()
            _remove_empty(base)
            return
        stack.enter_context(mounted(root, base, writable, options))
        mounts = {"/": root}
        names = DeviceNames(volumes, original)
        for spec, point, choice in fstab_lines(read_text(base, "/etc/fstab")):
            volume = names.find(spec)
            if volume is None or point not in SYSTEM_MOUNTS:
                continue
            subvolume = choice if volume.filesystem == "btrfs" else ""
            stack.enter_context(mounted(volume, inside(base, point), writable, subvolume))
            mounts[point] = volume
        yield MountedSystem(base, mounts)
    base.rmdir()


def fstab_lines(text: str) -> List[Tuple[str, str, str]]:
    """(device, mount point, ``subvol=`` option), outer mount points first."""
    found = []
    for line in text.splitlines():
        parts = line.split()
        if len(parts) < 3 or parts[0].startswith("#"):
            continue
        options = parts[3].split(",") if len(parts) > 3 else []
        subvolume = next((one for one in options if one.startswith("subvol=")), "")
        found.append((parts[0], parts[1].rstrip("/") or "/", subvolume))
    return sorted(found, key=lambda one: (one[1] != "/", one[1].count("/")))


def _find_root(volumes: Sequence[Volume], base: Path) -> Tuple[Volume, str]:
    tried: List[str] = []
    for volume in volumes:
        if volume.filesystem not in DATA_FILESYSTEMS or volume.filesystem == "vfat":
            continue
        try:
            with mounted(volume, base, writable=False):
                if (base / "etc/fstab").is_file() and (base / "usr").is_dir():
                    return volume, ""
            if volume.filesystem == "btrfs":
                with mounted(volume, base, writable=False, options="subvolid=5"):
                    for options in root_options(base):
                        return volume, options
        except NotfallError as error:
            tried.append(error.cause)
    raise NotfallError(
        "no-system",
        "No operating system that can be adapted was found in the image"
        + (f" ({tried[0][:300]})." if tried else "."),
        "Adaptation knows Linux systems with an /etc/fstab. Check that all disks are protected.",
    )


def _outside(volumes: Sequence[Volume], base: Path) -> Dict[str, Volume]:
    """What an encrypted system keeps in the clear: /boot, and the ESP if there is one."""
    found: Dict[str, Volume] = {}
    for volume in volumes:
        if volume.filesystem not in DATA_FILESYSTEMS:
            continue
        with mounted(volume, base, writable=False):
            if "/boot" not in found and any(base.glob("vmlinuz-*")):
                found["/boot"] = volume
            elif volume.filesystem == "vfat" and any(
                one.name.lower() == "efi" for one in base.iterdir()
            ):
                found.setdefault("/boot/efi", volume)
    if "/boot" not in found:
        raise NotfallError(
            "boot-locked",
            "The image is encrypted, /boot as well: nothing in it can be adapted.",
            "Give the primary a /boot that is not encrypted, as the installer makes it.",
        )
    return {point: found[point] for point in sorted(found)}


def _remove_empty(base: Path) -> None:
    """Mount points that we made in a directory of ours, where there was no root to hold them."""
    for path in sorted(base.rglob("*"), reverse=True):
        path.rmdir()
    base.rmdir()
