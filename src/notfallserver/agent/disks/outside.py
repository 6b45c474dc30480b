"""Whether a directory lies outside of the disks that are replicated."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

from notfallserver.agent.disks.base import Protected
from notfallserver.agent.disks.mounts import current_mounts, to_freeze
from notfallserver.wire.errors import NotfallError


def require_outside(to: Path, disks: Sequence[Protected]) -> None:
    """Refuse one on a disk that is replicated: a seed there would have to hold itself."""
    try:
        device = to.stat().st_dev
    except OSError as error:
        raise no_directory(to, error) from None
    groups = to_freeze(current_mounts(), [one.device for one in disks])
    if any(mount.device == device for group in groups for mount in group):
        raise on_own_disk(to)


def no_directory(to: Path, error: OSError) -> NotfallError:
    return NotfallError(
        "no-such-directory",
        f"{to}: {error.strerror}.",
        "Name a directory on the removable disk, mounted.",
    )


def on_own_disk(to: Path) -> NotfallError:
    return NotfallError(
        "seed-on-own-disk",
        f"{to} lies on a disk that is replicated itself.",
        "Name a directory on another disk. A removable disk that counts as built in is left "
        "out by naming the others as 'disks' in agent.json.",
    )
