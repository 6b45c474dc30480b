"""Whether there is room for what a run brings.

A run must not take the last of the pool: stand-ins that work need space for whatever they change,
and QEMU holds a machine that gets none. So runs end a little before. Of a pool in an image file
the same holds for the disk on which the file lies and grows: there, "full" would be a write error
in the pool, and would stop the catalogue beside it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage

from notfallserver.server.host.set_aside import give_back
from notfallserver.wire.errors import NotfallError

_SHARE = 100
_MOST = 1 << 30


def reserve_of(size: int) -> int:
    """What runs leave free of a filesystem of ``size`` bytes: a hundredth, at most 1 GiB."""
    return min(size // _SHARE, _MOST)


@dataclass(frozen=True)
class Below:
    """The disk on which the pool's image file lies, in bytes; the file may still grow by
    ``grows``."""

    free: int
    size: int
    grows: int


@dataclass(frozen=True)
class Room:
    """Of the pool in the directory ``root``, which is in the file ``image`` if there is one."""

    root: Path
    image: Path | None = None

    def free(self) -> tuple[int, int]:
        """Free and whole size of the pool's filesystem, in bytes."""
        usage = disk_usage(self.root)
        return usage.free, usage.total

    def below(self) -> Below | None:
        """None where the pool is in no file."""
        if self.image is None:
            return None
        disk, file = disk_usage(self.image.parent), self.image.stat()
        return Below(disk.free, disk.total, max(file.st_size - file.st_blocks * 512, 0))

    def need(self) -> None:
        """Refuse to take more when there is little left."""
        free, size = self.free()
        if free < reserve_of(size):
            give_back(self.root)
            free, size = self.free()
        if free < reserve_of(size):
            raise pool_full("The image pool is full.")
        below = self.below()
        if below is not None and below.free < min(reserve_of(below.size), below.grows):
            raise pool_full(
                f"The disk that holds the image pool ({self.image}) is full.",
                "Make room on that disk, or give the pool a larger one; then replicate again.",
            )


@contextmanager
def pool_may_be_full() -> Iterator[None]:
    """Tell in words when the pool has no space left; the last version is untouched by that."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise pool_full("The image pool is full.") from None


def pool_full(
    cause: str,
    remedy: str = "Remove old versions or give the pool more space; then replicate again.",
) -> NotfallError:
    return NotfallError("pool-full", cause, remedy, status=507)
