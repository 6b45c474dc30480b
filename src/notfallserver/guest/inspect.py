"""Looks at a mounted system and says what the plan needs to know. Writes nothing."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import FrozenSet, List, Sequence, Set, Tuple

from notfallserver.guest.cpio import read_initramfs
from notfallserver.guest.facts import Esp, Kernel, System, Volume
from notfallserver.guest.late import SCRIPT
from notfallserver.guest.mounts import MountedSystem
from notfallserver.guest.network import NETWORK_FOLDERS
from notfallserver.guest.paths import inside, read_text
from notfallserver.guest.plan import DRACUT_FILE, MODULES_FILE, ROLE_FILE
from notfallserver.wire.errors import NotfallError

TEXTS = (
    "/etc/fstab",
    "/etc/crypttab",
    "/etc/default/grub",
    "/etc/kernel/cmdline",
    "/etc/initramfs-tools/conf.d/resume",
    "/boot/grub/grub.cfg",
    MODULES_FILE,
    DRACUT_FILE,
    ROLE_FILE,
)
TOOLS = ("update-initramfs", "mkinitramfs", "grub-install", "dracut")
FOLDER_LIMIT = 500
_MODULE = re.compile(r"(?:usr/)?lib/modules/[^/]+/.*/([^/]+)\.ko(?:\.\w+)?$")


def inspect(mounted: MountedSystem, volumes: Tuple[Volume, ...], disks: Sequence[str]) -> System:
    """Everything about the system below ``mounted.root``; ``disks`` in the order of the image."""
    root = mounted.root
    paths = list(TEXTS)
    for folder in NETWORK_FOLDERS:
        paths += files_below(root, folder)
    texts = {path: text for path in paths for text in [read_text(root, path)] if text}
    return System(
        name=_system_name(root),
        root=mounted.mounts["/"] if not mounted.locked else _locked_root(volumes),
        volumes=volumes,
        files=texts,
        kernels=tuple(_kernels_outside(root) if mounted.locked else _kernels(root)),
        esp=tuple(
            Esp(volume, point, _lower_files(inside(root, point)))
            for point, volume in mounted.mounts.items()
            if volume.filesystem == "vfat"
        ),
        boot_code=tuple(boot_code(Path(disk)) for disk in disks),
        tools=frozenset(one for one in TOOLS if _has_tool(root, one)),
        locked=mounted.locked,
    )


def _locked_root(volumes: Tuple[Volume, ...]) -> Volume:
    """The largest encrypted volume; nothing but its place is of use."""
    return max((v for v in volumes if v.filesystem == "crypto_LUKS"), key=lambda one: one.size)


def _system_name(root: Path) -> str:
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)', read_text(root, "/etc/os-release"), re.M)
    return found.group(1) if found else "Linux"


def files_below(root: Path, folder: str) -> List[str]:
    found: List[str] = []
    base = inside(root, folder)
    for here, _, names in os.walk(base):
        for name in sorted(names):
            if len(found) < FOLDER_LIMIT:
                found.append(folder + str((Path(here) / name).relative_to(base)))
    return found


def _has_tool(root: Path, name: str) -> bool:
    return any(inside(root, f"/{folder}/{name}").is_file() for folder in ("usr/sbin", "usr/bin"))


def _version_key(version: str) -> Tuple[Tuple[int, str], ...]:
    parts = re.findall(r"\d+|[^\d]+", version)
    return tuple((int(one), "") if one.isdigit() else (-1, one) for one in parts)


def _kernels(root: Path) -> List[Kernel]:
    """Installed kernels, the newest last."""
    base = inside(root, "/lib/modules")
    if not base.is_dir():
        return []
    kernels = []
    for version in sorted((one.name for one in base.iterdir() if one.is_dir()), key=_version_key):
        if not inside(root, f"/boot/vmlinuz-{version}").is_file():
            continue
        initramfs = f"/boot/initrd.img-{version}"
        image = inside(root, initramfs)
        try:
            carried = carried_modules(image) if image.is_file() else frozenset()
        except NotfallError:
            carried = frozenset()  # unreadable: the plan has it rebuilt
        kernels.append(
            Kernel(
                version=version,
                initramfs=initramfs if image.is_file() else "",
                carried=carried,
                builtin=_listed_modules(base / version / "modules.builtin"),
                available=_listed_modules(base / version / "modules.dep"),
            )
        )
    return kernels


def _kernels_outside(root: Path) -> List[Kernel]:
    """Kernels of a locked system: what their initramfs carries is all there is to choose from."""
    kernels = []
    for image in sorted(inside(root, "/boot").glob("vmlinuz-*"), key=lambda one: one.name):
        version = image.name.partition("-")[2]
        initramfs = f"/boot/initrd.img-{version}"
        if inside(root, initramfs).is_file():
            kernels.append(_kernel_outside(inside(root, initramfs), version, initramfs))
    return sorted(kernels, key=lambda one: _version_key(one.version))


def _kernel_outside(image: Path, version: str, initramfs: str) -> Kernel:
    table = f"lib/modules/{version}/modules.builtin"
    carried: Set[str] = set()
    builtin: FrozenSet[str] = frozenset()
    late = ""
    try:
        for entry in read_initramfs(image, lambda one: one.endswith(table) or one == SCRIPT):
            match = _MODULE.match(entry.name)
            if match:
                carried.add(match.group(1).replace("-", "_"))
            elif entry.name.endswith(table):
                builtin = _names_of(entry.data.decode("utf-8", "replace").splitlines())
            elif entry.name == SCRIPT:
                late = entry.data.decode("utf-8", "replace")
    except NotfallError:
        pass  # unreadable: it lacks all that is needed, and the plan says so
    return Kernel(version, initramfs, frozenset(carried), builtin, frozenset(carried), late)


def carried_modules(initramfs: Path) -> FrozenSet[str]:
    """The modules in an initramfs file."""
    found: Set[str] = set()
    for entry in read_initramfs(initramfs, lambda name: False):
        match = _MODULE.match(entry.name)
        if match:
            found.add(match.group(1).replace("-", "_"))
    return frozenset(found)


def _listed_modules(table: Path) -> FrozenSet[str]:
    try:
        lines = table.read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    return _names_of(lines)


def _names_of(lines: Sequence[str]) -> FrozenSet[str]:
    paths = [line.partition(":")[0].strip() for line in lines]
    return frozenset(Path(one).name.partition(".ko")[0].replace("-", "_") for one in paths)


def _lower_files(folder: Path) -> Tuple[str, ...]:
    found = []
    for here, _, names in os.walk(folder):
        for name in names:
            found.append(str((Path(here) / name).relative_to(folder)).lower())
    return tuple(sorted(found)[:FOLDER_LIMIT])


def boot_code(disk: Path) -> str:
    """What the first sector starts: "grub", "broken" (GRUB without its core), "other" or "none"."""
    with disk.open("rb") as raw:
        first = raw.read(512)
        if len(first) < 512 or first[510:] != b"\x55\xaa" or not any(first[:440]):
            return "none"
        if b"GRUB" not in first[:440]:
            return "other"
        # GRUB's boot.img names the sector of its core at 0x5c
        raw.seek(int.from_bytes(first[0x5C:0x64], "little") * 512)
        return "grub" if any(raw.read(512)) else "broken"
