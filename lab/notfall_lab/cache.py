"""What is built once and kept: directories named by a hash of everything that went into them.

Invariant: an entry exists only when it is complete (built beside, then renamed). Two builders of
the same entry wait for each other. Base directory: ``$XDG_CACHE_HOME/notfallserver-lab``.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

FILES = Path(__file__).parent / "files"


def base_directory() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    directory = Path(home) / "notfallserver-lab"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def key_of(*parts: str | Path) -> str:
    """A short hash over texts and over the content of files."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part.encode()
        digest.update(f"{len(content)}:".encode() + content)
    return digest.hexdigest()[:16]


def cached(
    kind: str,
    key: str,
    build: Callable[[Path], None],
    sweep: Callable[[Path], None] = lambda directory: shutil.rmtree(directory, ignore_errors=True),
) -> Path:
    """The directory ``kind-key``; ``build(directory)`` fills it when it is not there yet.

    ``sweep(directory)`` removes what an earlier build left when it was killed or failed.
    Entries of the same kind with other keys are removed after a build: the cache does not grow.
    """
    base = base_directory()
    done = base / f"{kind}-{key}"
    with _lock(base / f"{kind}.lock"):
        if done.exists():
            return done
        unfinished = base / f"{kind}.unfinished"
        sweep(unfinished)
        unfinished.mkdir()
        build(unfinished)
        os.sync()
        unfinished.rename(done)
        for old in base.glob(f"{kind}-*"):
            if old != done and old.is_dir():
                shutil.rmtree(old)
    return done


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
