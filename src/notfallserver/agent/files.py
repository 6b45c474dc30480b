"""Files of the agent's configuration, replaced whole or not at all."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

_READERS_S = 10.0


def write_whole(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace a file whole, or not at all; nobody else can read it at any time.

    On Windows it has the rights of its directory.
    """
    new = path.with_name(path.name + ".new")
    with suppress(FileNotFoundError):
        new.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(new, flags, mode), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    _put(new, path)


def on_windows() -> bool:
    return os.name == "nt"


def _put(new: Path, path: Path) -> None:
    """Windows refuses as long as somebody reads what is there, which is for a moment only."""
    until = time.monotonic() + (_READERS_S if on_windows() else 0)
    while True:
        try:
            new.replace(path)
            return
        except PermissionError:
            if time.monotonic() >= until:
                raise
        time.sleep(0.05)
