"""Making the pool: where the given path cannot reflink, an XFS image file is made and mounted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from notfallserver.server.host.clone import can_reflink
from notfallserver.server.host.mount import is_mounted, make_xfs, mount_image


@dataclass(frozen=True)
class PoolPlace:
    """Where the pool is: the directory, and the image file mounted there, if one is needed."""

    directory: Path
    image: Path | None
    reflink: bool


def prepare_pool(directory: Path, image: Path, size: int) -> PoolPlace:
    """Make the pool ready to use; may be called any number of times.

    ``image`` is used only when ``directory`` lies on a filesystem without reflink; it is a sparse
    file of ``size`` bytes that grows as the pool fills.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if image.exists():
        mount_image(image, directory)
        return PoolPlace(directory, image, can_reflink(directory))
    if can_reflink(directory):
        return PoolPlace(directory, None, True)
    if is_mounted(directory) or any(directory.iterdir()):
        # Something of the user's own is there: it is used as it is, with sparse copies.
        return PoolPlace(directory, None, False)
    image.parent.mkdir(parents=True, exist_ok=True)
    make_xfs(image, size)
    mount_image(image, directory)
    return PoolPlace(directory, image, can_reflink(directory))
