"""Carries out a plan on a mounted Windows. Every step may be repeated; see :mod:`workspace`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Set

from notfallserver.guest.apply import add_boot_entry
from notfallserver.guest.plan import AddBootEntry, WriteFile
from notfallserver.guest.windows.hive import Hive
from notfallserver.guest.windows.laid_down import PutPackage
from notfallserver.guest.windows.places import CONFIG, DRIVERS, find
from notfallserver.guest.windows.plan import CopyOnEsp, WindowsPlan
from notfallserver.guest.windows.registry import DeleteKey, DeleteValue, RegistryStep, SetValue
from notfallserver.guest.windows.storage import PutDriver
from notfallserver.guest.windows.workspace import replace_hive, whole_hive, workspace
from notfallserver.wire.errors import NotfallError

ACL = "system.ntfs_acl"


def apply_windows(
    plan: WindowsPlan,
    root: Path,
    esp: Optional[Path],
    disks: Sequence[str],
    tell: Callable[[str], None] = lambda change: None,
) -> List[str]:
    """Do all steps in order; returns what was changed, in words for people.

    ``root`` and ``esp`` are where the Windows volume and the EFI system partition are mounted. All
    steps of a hive are done together, where its first one stands.
    """
    changes: List[str] = []
    hives: Set[str] = set()
    for step in plan.steps:
        if isinstance(step, (SetValue, DeleteValue, DeleteKey)):
            if step.hive in hives:
                continue
            hives.add(step.hive)
            steps = _of_hive(plan, step.hive)
            told = list(dict.fromkeys(one.change for one in steps))
            for change in told:
                tell(change)
            change_hive(root, step.hive, steps)
            changes += told
            continue
        tell(step.change)
        if isinstance(step, PutDriver):
            _put_driver(root, step)
        elif isinstance(step, PutPackage):
            _put_package(root, step)
        elif isinstance(step, WriteFile):
            _write_text(root, step.path, step.text)
        elif isinstance(step, CopyOnEsp) and esp is not None:
            _copy(find(esp, step.source), find(esp, step.target))
        elif not isinstance(step, AddBootEntry) or not add_boot_entry(step, disks):
            continue
        changes.append(step.change)
    return changes


def _of_hive(plan: WindowsPlan, name: str) -> List[RegistryStep]:
    registry = [one for one in plan.steps if isinstance(one, (SetValue, DeleteValue, DeleteKey))]
    return [one for one in registry if one.hive == name]


def change_hive(root: Path, name: str, steps: Sequence[RegistryStep]) -> None:
    """All steps of one hive at once: it has all of them or none."""
    with workspace(root) as folder:
        path = whole_hive(root, folder, name)
        with Hive(path, writable=True) as hive:
            for step in steps:
                hive.apply(step)
            hive.commit()
        with Hive(path) as hive:
            lost = next((one for one in steps if not hive.shows(one)), None)
        if lost is not None:
            raise NotfallError(
                "hive-not-written",
                f"The registry file {name} does not show what was written: {lost.change}.",
                "Use an older version of this primary, and report this.",
                status=500,
            )
        replace_hive(root, name, path)


def _put_driver(root: Path, step: PutDriver) -> None:
    target = find(root, step.target)
    _make_folder(root, target.parent)
    kind = target.suffix.lower()
    beside = next((one for one in target.parent.iterdir() if one.suffix.lower() == kind), None)
    _copy(Path(step.source), target)
    _protect(target, beside or find(root, DRIVERS))


def _put_package(root: Path, step: PutPackage) -> None:
    """The folder has its name when it has all its files; what an interrupted one left is in the
    way of nobody."""
    target = find(root, step.target)
    size = sum((Path(step.source) / one).stat().st_size for one in step.files)
    room = os.statvfs(root)
    if room.f_bavail * room.f_frsize < 2 * size:
        raise NotfallError(
            "windows-full",
            "There is too little room on the image's Windows drive for its new drivers.",
            "Make some room on that drive of the primary, then replicate again.",
        )
    part = target.with_name(f"{target.name}.part")
    if part.is_dir():
        shutil.rmtree(part)
    for one in step.files:
        here = find(part, one)
        _make_folder(root, here.parent)
        _copy(Path(step.source) / one, here)
        _protect(here, find(root, f"{CONFIG}/SYSTEM"))
    part.rename(target)


def _make_folder(root: Path, folder: Path) -> None:
    """An agent takes no folder that others may change, nor one that others may change around it."""
    above = [folder, *folder.parents]
    for one in reversed(above[: above.index(root)]):
        if not one.is_dir():
            one.mkdir()
            _protect(one, find(root, CONFIG))


def _write_text(root: Path, path: str, text: str) -> None:
    """As a whole or not at all: what it holds may be nowhere else."""
    target = find(root, path)
    _make_folder(root, target.parent)
    part = target.with_name(f"{target.name}.part")
    with part.open("wb") as file:
        _protect(part, target if target.exists() else find(root, f"{CONFIG}/SYSTEM"))
        file.write(text.encode("utf-8", "surrogateescape"))
        file.flush()
        os.fsync(file.fileno())
    part.replace(target)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    shutil.copyfile(source, part)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(target)


def _protect(path: Path, like: Path) -> None:
    """With the permissions of ``like``; on NTFS a new file would be open to everybody."""
    try:
        os.setxattr(path, ACL, os.getxattr(like, ACL))
    except OSError:
        pass  # no NTFS, or one without permissions
