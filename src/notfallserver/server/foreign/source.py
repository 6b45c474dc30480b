"""Reads the disk in an image: contents in blocks, stretches of zeros without reading them.

QEMU's own program has the image open, enclosed, and hands out its content over a socket. So there
is no second copy of the disk, and whatever the image is, it is read in the same way.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from notfallserver.server.foreign.chain import Layer
from notfallserver.server.foreign.enclosure import (
    ROOM,
    enclosed,
    image_error,
    image_option,
    started,
)
from notfallserver.server.foreign.nbd import MOST, Export
from notfallserver.wire.blocks import BLOCK
from notfallserver.wire.errors import NotfallError

START_S = 60.0
READ_S = 300.0
"""A slow network drive may need so long for one answer."""
STEP = 4 << 20
_TICK_S = 0.05
_SECTOR = 512


@dataclass(frozen=True)
class Stretch:
    """A row of whole blocks (the disk's last one may be shorter); all zero where ``data`` is None.

    ``first`` and ``count`` are blocks.
    """

    first: int
    count: int
    data: memoryview | None = None


class Source:
    """The disk in an open image, ``size`` bytes: whole sectors, the last one filled with zeros."""

    def __init__(self, export: Export) -> None:
        self._export = export
        self.size = -(-export.size // _SECTOR) * _SECTOR

    def read(self, offset: int, length: int) -> bytes:
        """A few bytes, fewer at the disk's end."""
        length = min(length, self.size - offset)
        if length <= 0 or offset < 0:
            return b""
        return bytes(self._filled(offset, length) or bytes(length))

    def stretches(self) -> Iterator[Stretch]:
        """The whole disk in order; after zeros more is asked for at once."""
        at, step = 0, STEP
        while at < self.size:
            length = min(step, self.size - at)
            found = self._filled(at, length)
            count = -(-length // BLOCK)
            yield Stretch(at // BLOCK, count, None if found is None else memoryview(found))
            step = STEP if found is not None else MOST
            at += length

    def _filled(self, offset: int, length: int) -> bytearray | None:
        """The content; None where all of it is a hole."""
        there = max(0, min(length, self._export.size - offset))
        chunks = self._export.read(offset, there) if there else []
        if all(one.data is None for one in chunks):
            return None
        content = bytearray(length)
        for one in chunks:
            if one.data is not None:
                at = one.offset - offset
                content[at : at + one.length] = one.data
        return content


@contextmanager
def opened_source(layer: Layer, check: Callable[[], None]) -> Iterator[Source]:
    """The image's disk while this block lasts; ``check`` raises to give up waiting for it."""
    files = [path for path, _ in layer.files()]
    with TemporaryDirectory(prefix="nfi-") as name:
        room = Path(name)
        command = ["qemu-nbd", "--read-only", f"--socket={ROOM}/nbd", image_option(layer)]
        with (
            started(enclosed(files, command, room)) as (process, words),
            _connected(room / "nbd", process, words, layer, check) as export,
        ):
            yield Source(export)


def _connected(
    path: Path,
    process: subprocess.Popen[bytes],
    words: Callable[[], str],
    layer: Layer,
    check: Callable[[], None],
) -> Export:
    until = time.monotonic() + START_S
    while True:
        check()
        if process.poll() is not None:
            raise image_error(layer.path.name, words())
        if path.exists():
            try:
                return Export(path, READ_S)
            except (ConnectionRefusedError, FileNotFoundError):
                pass  # it is about to listen
        if time.monotonic() > until:
            raise NotfallError(
                "image-reader-failed",
                f"{layer.path.name} could not be opened within {START_S:.0f} s.",
                "Look at the disk that the image lies on, then try again.",
                retry=True,
                status=504,
            )
        time.sleep(_TICK_S)
