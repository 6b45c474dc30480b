"""What the primary's filesystem holds: this machine's own files, noise, and many small files.

The same seed gives the same choice.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from notfallserver.server.host.run import run

SOURCES = (Path("/usr/lib"), Path("/usr/share"), Path("/usr/bin"), Path("/usr/local"))
SEED = 20
IN_A_DIRECTORY = 1000
SMALL = 4096
"""The most a small file holds: one block of its filesystem."""


@dataclass(frozen=True)
class Filling:
    """``copied`` and ``noise`` in bytes; small files are added until there are ``files``."""

    copied: int = 0
    noise: int = 0
    files: int = 0


OFFICE = Filling(copied=2600 << 20, noise=450 << 20)
"""About 3.2 GiB in use."""


def fill(tree: Path, filling: Filling) -> None:
    """Make the files in an empty tree; ``copied/``, ``noise/`` and ``small/`` are below it."""
    present = _copy(tree / "copied", filling.copied)
    (tree / "noise").mkdir()
    dice = random.Random(SEED)
    for number in range(filling.noise >> 20):
        (tree / "noise" / f"{number}.bin").write_bytes(dice.randbytes(1 << 20))
    present += filling.noise >> 20
    _make_small(tree / "small", max(0, filling.files - present))


def _copy(to: Path, wanted: int) -> int:
    """Copy files of together at most ``wanted`` bytes; returns how many were chosen."""
    if not wanted:
        return 0
    chosen, names = 0, []
    for path, size in _candidates():
        if chosen + size > wanted:
            continue
        chosen += size
        names.append(str(path))
    run(
        ["rsync", "-a", "--from0", "--files-from=-", "/", to],
        text_in="\0".join(names),
        timeout=900,
        ok=(0, 23, 24),  # a file that vanished or can't be read is one less
    )
    return len(names)


def _candidates() -> Iterator[tuple[Path, int]]:
    found = []
    for source in SOURCES:
        for folder, _, names in os.walk(source):
            for name in names:
                path = Path(folder, name)
                if not path.is_symlink() and path.is_file():
                    # A file takes whole pages on the disk.
                    found.append((path, -(-path.stat().st_size // 4096) * 4096))
    found.sort()
    random.Random(SEED).shuffle(found)
    yield from found


def _make_small(to: Path, count: int) -> None:
    """Plain system calls: a million of them should take a minute or two, not ten."""
    text = b"".join(b"entry %d of a table that nobody reads\n" % one for one in range(60_000))
    dice = random.Random(SEED)
    for start in range(0, count, IN_A_DIRECTORY):
        directory = to / str(start // IN_A_DIRECTORY)
        directory.mkdir(parents=True)
        for number in range(start, min(start + IN_A_DIRECTORY, count)):
            at = dice.randrange(len(text) - SMALL)
            handle = os.open(f"{directory}/{number}", os.O_WRONLY | os.O_CREAT, 0o644)
            os.write(handle, text[at : at + 200 + at % (SMALL - 200)])
            os.close(handle)
