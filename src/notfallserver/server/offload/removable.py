"""Removable disks: known by the UUID of their filesystem, mounted while they are used.

No event of udev is waited for: whether a disk is there is looked at every few seconds, which also
sees what was plugged in while the server was off.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from notfallserver.server.host.mount import is_mounted
from notfallserver.server.host.run import run
from notfallserver.wire.errors import NotfallError

BY_UUID = Path("/dev/disk/by-uuid")
FRESH_S = 3.0

_asking = threading.Lock()
_found: tuple[float, Mapping[str, Path]] = (float("-inf"), {})


def find_disk(uuid: str) -> Path | None:
    """The device with this filesystem; None while it is not plugged in."""
    if BY_UUID.is_dir():
        link = BY_UUID / uuid
        return link.resolve() if link.exists() else None
    return _ask_all().get(uuid)


def _ask_all() -> Mapping[str, Path]:
    """Where nobody keeps links (no udev): all block devices are read, past any cache, but not again
    within a few seconds."""
    global _found
    with _asking:
        asked, found = _found
        if time.monotonic() - asked < FRESH_S:
            return found
        names = [line.split()[-1] for line in Path("/proc/partitions").read_text().splitlines()[2:]]
        # A mapping that stands still would hold whoever reads it; none of these is plugged in.
        plugged = [name for name in names if not name.startswith(("dm-", "md", "zram", "nbd"))]
        known = {}
        for device in (path for path in (Path("/dev", name) for name in plugged) if path.exists()):
            # One by one: blkid goes no further than to the first on which it finds nothing.
            told = run(["blkid", "-p", "-o", "full", device], timeout=60, ok=(0, 2, 4, 8)).out
            if one := re.search(r' UUID="([^"]+)"', told):
                known[one[1]] = device
        _found = time.monotonic(), known
        return known


@contextmanager
def mounted_disk(uuid: str, at: Path) -> Iterator[Path]:
    """The disk's filesystem at ``at`` while the block lasts; written out and let go afterwards, so
    that it may be unplugged. What a crash left mounted is put away first."""
    release_disk(at)
    device = find_disk(uuid)
    if device is None:
        raise NotfallError(
            "place-away",
            f"The disk {uuid} is not plugged in.",
            "Plug it in.",
            retry=True,
            status=409,
        )
    at.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Nothing on it is run, no device in it is one.
    run(["mount", "-o", "nosuid,nodev,noexec", device, at], timeout=300)
    try:
        yield at
    finally:
        run(["sync", "-f", at], timeout=3600)
        release_disk(at)


def release_disk(at: Path) -> None:
    """Unmount what is mounted there."""
    while os.path.lexists(at) and is_mounted(at):
        run(["umount", at], timeout=600)
