"""Changing the primary: a fixed set of overwritten pieces, and a steady load of writes."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from notfallserver.wire.blocks import BLOCK

LOAD_PIECES_A_SECOND = 160  # 10 MiB/s


def _places(tree: Path) -> list[tuple[Path, int]]:
    """All 64 KiB pieces of all files, in a fixed order."""
    found = []
    for path in sorted(tree.rglob("*")):
        if path.is_file() and not path.is_symlink():
            found += [(path, piece * BLOCK) for piece in range(path.stat().st_size // BLOCK)]
    return found


def _piece(dice: random.Random, places: list[tuple[Path, int]]) -> bytes:
    """Half of the new content is like the old (a piece of another file), half is random."""
    if dice.random() < 0.5:
        return dice.randbytes(BLOCK)
    path, at = dice.choice(places)
    with path.open("rb") as stream:
        stream.seek(at)
        return stream.read(BLOCK)


def _overwrite(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write(content)


def change(tree: Path, pieces: int, seed: int) -> None:
    """Overwrite ``pieces`` random 64 KiB pieces of existing files, and write everything out.

    A file's pieces lie anywhere on the disk, so a piece may touch two of its blocks.
    """
    places = _places(tree)
    dice = random.Random(seed)
    for path, at in dice.sample(places, pieces):
        _overwrite(path, at, _piece(dice, places))
    os.sync()


@contextmanager
def write_load(tree: Path, seed: int) -> Iterator[None]:
    """Within the block a thread overwrites random pieces, 10 MiB/s, synced once a second."""
    places = _places(tree)
    over = threading.Event()

    def work() -> None:
        dice = random.Random(seed)
        handle = os.open(tree, os.O_RDONLY)
        try:
            while not over.wait(0.1):
                for _ in range(LOAD_PIECES_A_SECOND // 10):
                    path, at = dice.choice(places)
                    _overwrite(path, at, dice.randbytes(BLOCK))
                if dice.random() < 0.1:
                    os.sync()
        finally:
            os.close(handle)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
