"""A tree in which a guest is built: its disks as loop devices, mounts, commands inside."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from notfallserver.server.host.run import run


def chroot(tree: Path, *arguments: str, text_in: str | None = None, timeout: float = 300) -> str:
    return run(["chroot", tree, *arguments], text_in=text_in, timeout=timeout).out


def write_file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text.rstrip("\n") + "\n")


@contextmanager
def loop_disk(path: Path) -> Iterator[str]:
    """Loop device of a disk that has partitions."""
    device = run(["losetup", "--find", "--show", "--partscan", path]).out.strip()
    try:
        run(["partx", "-u", device])
        _wait_for(Path(f"{device}p1"))
        yield device
    finally:
        run(["losetup", "-d", device])


def _wait_for(node: Path) -> None:
    """udev makes the nodes on some machines, the kernel alone on others."""
    until = time.monotonic() + 10
    while not node.exists():
        if time.monotonic() > until:
            raise RuntimeError(f"{node} did not appear")
        time.sleep(0.05)


@contextmanager
def loop_part(disk: Path, start: int, size: int, readonly: bool = False) -> Iterator[str]:
    """Loop device of a part of a disk, in bytes; ``readonly``: as of an image in the pool."""
    line = ["losetup", "--find", "--show", "--offset", str(start), "--sizelimit", str(size)]
    device = run([*line, *(["--read-only"] if readonly else []), disk]).out.strip()
    try:
        yield device
    finally:
        run(["losetup", "-d", device])


@contextmanager
def mounted(device: str, place: Path) -> Iterator[None]:
    run(["mount", "-o", "discard", device, place])
    try:
        yield
    finally:
        run(["umount", place])


@contextmanager
def chroot_ready(tree: Path, devices: list[str], root: str, root_id: str) -> Iterator[None]:
    """/dev with just these devices, /proc, /sys; no service starts from a package's script."""
    with ExitStack() as stack:
        for kind in ("proc", "sysfs"):
            place = tree / {"proc": "proc", "sysfs": "sys"}[kind]
            run(["mount", "-t", kind, kind, place])
            stack.callback(run, ["umount", place])
        run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", tree / "dev"])
        stack.callback(run, ["umount", tree / "dev"])
        for device in [*devices, "/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"]:
            found = Path(device).stat()
            kept = stat.S_IFMT(found.st_mode) | 0o666
            os.mknod(tree / device.lstrip("/"), kept, found.st_rdev)
            (tree / device.lstrip("/")).chmod(0o666)
        (tree / "dev/shm").mkdir()
        (tree / "dev/shm").chmod(0o1777)
        # grub-mkconfig writes root=UUID only when udev's link is there.
        links = tree / "dev/disk/by-uuid"
        links.mkdir(parents=True)
        (links / root_id).symlink_to(f"../../{Path(root).name}")
        yield


def sweep(directory: Path) -> None:
    """Undo mounts and loop devices of a build in ``directory`` that was killed."""
    mounts = run(["findmnt", "-rn", "-o", "TARGET"]).out.splitlines()
    for place in reversed([one for one in mounts if Path(one).is_relative_to(directory)]):
        run(["umount", place])
    for line in run(["losetup", "-n", "-l", "-O", "NAME,BACK-FILE"]).out.splitlines():
        device, _, backing = line.partition(" ")
        if Path(backing.strip()).is_relative_to(directory):
            run(["losetup", "-d", device])
    shutil.rmtree(directory, ignore_errors=True)
