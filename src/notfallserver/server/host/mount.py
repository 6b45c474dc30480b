"""Mounting the pool's own image file (never an image of a primary)."""

from __future__ import annotations

from pathlib import Path

from notfallserver.server.host.run import run


def is_mounted(directory: Path) -> bool:
    return directory.is_mount()


def mount_image(image: Path, directory: Path) -> None:
    """Loop-mount ``image`` at ``directory``; nothing happens when something is mounted there.

    Direct I/O in the loop device keeps the data from being cached twice.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if is_mounted(directory):
        return
    found = run(["losetup", "-n", "-O", "NAME", "-j", image]).out.split()
    device = (
        found[0] if found else run(["losetup", "--direct-io=on", "-f", "--show", image]).out.strip()
    )
    try:
        run(["mount", "-o", "noatime", device, directory])
    finally:
        # While it is mounted this only says that the device goes away with the mount.
        run(["losetup", "-d", device], ok=range(256))


def unmount_image(directory: Path) -> None:
    """Undo :func:`mount_image`."""
    if is_mounted(directory):
        run(["umount", directory])


def make_xfs(image: Path, size: int) -> None:
    """A sparse file of ``size`` bytes with an XFS that can reflink."""
    unfinished = image.with_name(image.name + ".new")
    unfinished.unlink(missing_ok=True)
    with unfinished.open("xb") as stream:
        stream.truncate(size)
    run(["mkfs.xfs", "-q", "-m", "reflink=1", unfinished], timeout=600)
    unfinished.rename(image)
