r"""Whether a directory lies outside of the disks that are replicated. Facts and texts only.

Known is where volumes are mounted; what is on none of them (a share, a drive of the network) is
outside. ``path`` is whole, and no link or junction is in it any more.
"""

from __future__ import annotations

from typing import Optional, Sequence

from notfallserver.agent.windows.survey import SeenDisk, SeenVolume

_LONG = "\\\\?\\"


def is_outside(path: str, disks: Sequence[SeenDisk], volumes: Sequence[SeenVolume]) -> bool:
    """Whether none of the disks has any part of the volume with that directory."""
    volume = volume_of(path, volumes)
    own = {one.number for one in disks}
    return volume is None or not own & {one.disk for one in volume.extents}


def volume_of(path: str, volumes: Sequence[SeenVolume]) -> Optional[SeenVolume]:
    """The one that is mounted nearest above it."""
    wanted = _spelled(path)
    found = [
        (len(place), one)
        for one in volumes
        for place in map(_spelled, (*one.places, one.name))
        if wanted.startswith(place)
    ]
    return max(found, key=lambda one: one[0])[1] if found else None


def _spelled(path: str) -> str:
    lower = path.replace("/", "\\").lower().rstrip("\\") + "\\"
    return lower[len(_LONG) :] if lower.startswith(_LONG) else lower
