"""Where files of a mounted Windows lie. Case does not matter there, and links are not followed:

a junction, or a link that somebody put into the image, could lead into the rescue system.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, Tuple

from notfallserver.wire.errors import NotfallError

CONFIG = "Windows/System32/config"
DRIVERS = "Windows/System32/drivers"
LOGS = ("LOG1", "LOG2", "LOG")


def find(root: Path, path: str) -> Path:
    """The file whatever the case of its name; it need not exist."""
    here = root
    for part in path.replace("\\", "/").strip("/").split("/"):
        if part in ("", ".", ".."):
            raise NotfallError("bad-image", f"'{path}' in the image leads out of it.", "")
        here = _below(here, part)
        if here.is_symlink():
            raise NotfallError("bad-image", f"'{path}' in the image is behind a link.", "")
    return here


def _below(folder: Path, name: str) -> Path:
    if os.path.lexists(folder / name) or not folder.is_dir():
        return folder / name
    same = (one for one in sorted(folder.iterdir()) if one.name.lower() == name.lower())
    return next(same, folder / name)


def logs_of(hive: Path) -> Tuple[Path, ...]:
    """Its logs that hold anything; the single one of old counts where there are no two."""
    found: Dict[str, Path] = {}
    for end in LOGS:
        log = _below(hive.parent, f"{hive.name}.{end}")
        if log.is_file() and not log.is_symlink() and log.stat().st_size:
            found[end] = log
    pair = tuple(found[one] for one in LOGS[:2] if one in found)
    return pair or tuple(found.values())


def files_below(folder: Path, most: int = 5000) -> Tuple[str, ...]:
    """Relative paths in lower case with forward slashes."""
    found = []
    for here, _, names in os.walk(folder):
        found += [str((Path(here) / one).relative_to(folder)).lower() for one in names]
        if len(found) >= most:
            break
    return tuple(sorted(found))
