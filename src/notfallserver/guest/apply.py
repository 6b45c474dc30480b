"""Carries out a plan on a mounted system. Every step may be repeated; files are replaced whole."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Callable, Iterator, List, Sequence

from notfallserver.guest.drivers import add_drivers, add_late
from notfallserver.guest.mounts import MountedSystem
from notfallserver.guest.paths import inside
from notfallserver.guest.plan import (
    AddBootEntry,
    AddDrivers,
    AddLate,
    CopyFile,
    InstallGrub,
    Plan,
    Step,
    WriteFile,
)
from notfallserver.guest.shell import run
from notfallserver.wire.errors import NotfallError

EFI_VARIABLES = Path("/sys/firmware/efi/efivars")


def apply_plan(
    plan: Plan,
    mounted: MountedSystem,
    disks: Sequence[str],
    tell: Callable[[str], None] = lambda change: None,
) -> List[str]:
    """Do all steps in order; returns what was changed, in words for people."""
    changes: List[str] = []
    for step in plan.steps:
        tell(step.change)
        if _apply(step, mounted, disks):
            changes.append(step.change)
    return changes


def _apply(step: Step, mounted: MountedSystem, disks: Sequence[str]) -> bool:
    root = mounted.root
    if isinstance(step, WriteFile):
        replace_text(inside(root, step.path), step.text)
    elif isinstance(step, CopyFile):
        target = _on_fat(root, step.target)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_on_fat(root, step.source), target)
    elif isinstance(step, AddDrivers):
        _add_drivers(root, step)
    elif isinstance(step, AddLate):
        add_late(root, inside(root, f"/boot/initrd.img-{step.version}"), step.script)
    elif isinstance(step, InstallGrub):
        with _working_root(root):
            command = ["chroot", str(root), "grub-install", "--target=i386-pc"]
            run([*command, disks[step.disk]], timeout=600)
    elif isinstance(step, AddBootEntry):
        return add_boot_entry(step, disks)
    return True


def replace_text(path: Path, text: str) -> None:
    """New content under the old owner and mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.notfall")
    part.write_bytes(text.encode("utf-8", "surrogateescape"))
    if path.exists():
        told = path.stat()
        os.chown(part, told.st_uid, told.st_gid)
        part.chmod(told.st_mode & 0o7777)
    else:
        part.chmod(0o644)
    part.replace(path)


def _on_fat(root: Path, path: str) -> Path:
    """The file whatever the case of its name; FAT mounts may be case-sensitive to look at."""
    here = root
    for part in path.strip("/").split("/"):
        names = [one.name for one in here.iterdir()] if here.is_dir() else []
        same = [one for one in names if one == part] or [
            one for one in names if one.lower() == part.lower()
        ]
        here = here / (same[0] if same else part)
    return here


def _add_drivers(root: Path, step: AddDrivers) -> None:
    """By hand; by the image's own tool where its archive is one that we don't understand."""
    image = inside(root, f"/boot/initrd.img-{step.version}")
    try:
        add_drivers(root, image, step.version, step.modules)
    except NotfallError as error:
        if error.code != "bad-initramfs":
            raise
        _rebuild_initramfs(root, step.version, step.modules)


def _rebuild_initramfs(root: Path, version: str, modules: Sequence[str]) -> None:
    image = inside(root, f"/boot/initrd.img-{version}")
    room = os.statvfs(image.parent)
    if room.f_bavail * room.f_frsize < 2 * image.stat().st_size:
        raise NotfallError(
            "boot-full",
            f"There is not enough room in /boot of the image to rebuild {image.name}.",
            "Remove old kernels on the primary (apt autoremove --purge), and replicate again.",
        )
    command = ["update-initramfs", "-u", "-k", version]
    if inside(root, "/usr/bin/dracut").is_file() and not _is_there(root, "mkinitramfs"):
        # not hostonly: it runs on the appliance's hardware, and starts on another
        command = ["dracut", "--force", "--no-hostonly", "--add-drivers", " ".join(modules)]
        command += [f"/boot/{image.name}", version]
    with _working_root(root):
        run(["chroot", str(root), *command], timeout=1800)


def _is_there(root: Path, tool: str) -> bool:
    return any(inside(root, f"/{one}/{tool}").is_file() for one in ("usr/sbin", "usr/bin"))


@contextmanager
def _working_root(root: Path) -> Iterator[None]:
    """The guest's tree with /dev, /proc, /sys, /run and /tmp, so that its own tools work."""
    with ExitStack() as stack:
        for kind, source, point in (
            ("devtmpfs", "devtmpfs", "dev"),
            ("proc", "proc", "proc"),
            ("sysfs", "sysfs", "sys"),
            ("tmpfs", "tmpfs", "run"),
            ("tmpfs", "tmpfs", "tmp"),
        ):
            where = str(inside(root, f"/{point}"))
            run(["mount", "-t", kind, source, where])
            stack.callback(run, ["umount", where], ok=(0, 32))
        yield


def add_boot_entry(step: AddBootEntry, disks: Sequence[str]) -> bool:
    """Put an entry in front of the firmware's boot order; False where one is there already."""
    if not EFI_VARIABLES.is_dir() or not any(EFI_VARIABLES.iterdir()):
        return False
    told = run(["efibootmgr", "-v"], ok=range(256)).out.lower()
    if step.part_uuid and any(
        step.part_uuid.lower() in line and step.loader.lower() in line for line in told.splitlines()
    ):
        return False
    disk, part = disks[step.disk], str(step.partition)
    command = ["efibootmgr", "-q", "-c", "-d", disk, "-p", part]
    # without room for entries the loader at the fallback place still boots the machine
    done = run([*command, "-L", step.label, "-l", step.loader], ok=range(256))
    return done.exit_code == 0
