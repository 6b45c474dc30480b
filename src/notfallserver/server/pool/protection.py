"""Sealed versions carry the immutable flag: their files can't be changed, nor moved, nor removed.

It is lifted for a repair and for the removal, and set again after; what a crash left without it
gets it at the next start. Where the filesystem has no such flag, or the server must not set it,
versions are as safe as their file modes make them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from notfallserver.server.host.immutable import is_immutable, release_tree, set_immutable

_lifted: dict[Path, int] = {}
"""Versions that are being repaired, and by how many at once."""
_counting = threading.Lock()


def protect_version(directory: Path) -> None:
    """Set the flags of a sealed version, unless it is being repaired; again does nothing."""
    with _counting:
        if _lifted.get(directory) or is_immutable(directory):
            return  # the directory's own flag is set last
        for path in directory.iterdir() if directory.exists() else ():
            set_immutable(path, True)
        set_immutable(directory, True)


def release_version(directory: Path) -> None:
    """Lift the flags for good: the server must not set them any more."""
    if is_immutable(directory):
        release_tree(directory)


@contextmanager
def lifted(directory: Path, again: bool) -> Iterator[None]:
    """A version can be written to inside this block; ``again``: protected afterwards."""
    with _counting:
        _lifted[directory] = _lifted.get(directory, 0) + 1
        release_tree(directory)
    try:
        yield
    finally:
        with _counting:
            _lifted[directory] -= 1
            if not _lifted[directory]:
                del _lifted[directory]
        if again:
            protect_version(directory)
