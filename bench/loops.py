"""Loop devices and mounts that are put away at the end of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from notfallserver.server.host.run import run


@contextmanager
def loop_device(image: Path, *options: str) -> Iterator[Path]:
    device = run(["losetup", "--find", "--show", *options, image]).out.strip()
    try:
        yield Path(device)
    finally:
        run(["losetup", "--detach", device])


@contextmanager
def mounted(what: Path, where: Path, *options: str) -> Iterator[Path]:
    where.mkdir(parents=True, exist_ok=True)
    run(["mount", *options, what, where])
    try:
        yield where
    finally:
        run(["umount", where])
