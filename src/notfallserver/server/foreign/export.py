"""Writes a disk as an image file for another hypervisor, and proves that it holds the same.

QEMU's tools write enclosed, as they read imports: they see the one disk, and the directory that the
result comes to. What was written is read back as an import would read it, block by block.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from notfallserver.server.foreign.chain import Layer, Mark
from notfallserver.server.foreign.enclosure import (
    IMAGES,
    ROOM,
    TICK_S,
    check_image,
    enclosed,
    started,
)
from notfallserver.server.foreign.formats import Described, Format
from notfallserver.server.foreign.source import Stretch, opened_source
from notfallserver.server.host.clone import written_stretches
from notfallserver.server.host.direct import forget_cached
from notfallserver.server.host.files import sync_path
from notfallserver.wire.blocks import BLOCK, hash_block
from notfallserver.wire.errors import NotfallError

MIB = 1 << 20
SPARE = 64 * MIB
"""For tables and headers of one image."""


class Kind(StrEnum):
    """What a disk can be written as; the value is the end of the file's name."""

    RAW = "raw"
    QCOW2 = "qcow2"
    VMDK = "vmdk"  # stream-optimised, as OVF wants it
    VHDX = "vhdx"


@dataclass(frozen=True)
class _Way:
    """``unit``: in pieces of so many bytes space is taken. ``sectors``: which a disk may have."""

    format: Format
    options: Sequence[str]
    unit: int
    sectors: Sequence[int] = (512,)


_WAYS = {
    Kind.RAW: _Way(Format.RAW, (), BLOCK, (512, 4096)),
    Kind.QCOW2: _Way(Format.QCOW2, ("-o", "compat=1.1"), BLOCK, (512, 4096)),
    Kind.VMDK: _Way(Format.VMDK, ("-o", "subformat=streamOptimized,adapter_type=lsilogic"), BLOCK),
    Kind.VHDX: _Way(Format.VHDX, ("-o", f"subformat=dynamic,block_size={MIB}"), MIB),
}

Expected = Callable[[int, int], Sequence[bytes]]
"""First block and number: the hashes that these blocks must have."""
Tell = Callable[[int], None]
"""Hears each number of bytes; may raise to give up."""


def file_name(index: int, kind: Kind) -> str:
    return f"disk{index}.{kind.value}"


def refuse_sector(index: int, sector: int, kind: Kind) -> None:
    if sector not in _WAYS[kind].sectors:
        raise NotfallError(
            "export-sector",
            f"Disk {index} has sectors of {sector} bytes, which {kind.value} can't tell of.",
            "Export it as raw or qcow2.",
            status=409,
        )


def needed_bytes(raw: Path, kind: Kind) -> int:
    """At most so much space the image takes, in bytes."""
    unit = _WAYS[kind].unit
    units = counted = 0
    with raw.open("rb") as stream:
        for begin, end in written_stretches(stream.fileno()):
            first, last = max(begin // unit, counted), -(-end // unit)
            units += max(0, last - first)
            counted = max(counted, last)
    return units * unit + units * unit // 100 + SPARE


def write_disk(raw: Path, room: Path, name: str, kind: Kind, tell: Tell) -> Path:
    """Write the image ``name`` into ``room``; on the disk when the call returns."""
    way, made = _WAYS[kind], room / name
    size = raw.stat().st_size
    source = str(IMAGES / raw.name)
    command = ["qemu-img", "convert", "-p", "-f", "raw", "-O", str(way.format), *way.options]
    line = enclosed([raw], [*command, source, str(ROOM / name)], room)
    with started(line) as (process, words):
        done = 0
        while process.poll() is None:
            done = _tell_progress(words(), size, done, tell)
            try:
                process.wait(TICK_S)
            except subprocess.TimeoutExpired:
                continue
        if process.returncode:
            raise _write_error(name, words())
        tell(size - done)
    sync_path(made)
    return made


def _tell_progress(words: str, size: int, done: int, tell: Tell) -> int:
    found = re.findall(r"([0-9.]+)/100%", words)
    now = max(done, int(size * min(float(found[-1]), 100) / 100)) if found else done
    tell(now - done)
    return now


def _write_error(name: str, words: str) -> NotfallError:
    tail = " ".join(words.splitlines()[-3:])[-600:]
    if os.strerror(errno.ENOSPC) in tail:
        return no_space(name)
    return NotfallError(
        "export-failed",
        f"The image {name} can't be written: {tail}",
        "Look at the disk that it shall lie on; then export again.",
        retry=True,
        status=500,
    )


def no_space(name: str) -> NotfallError:
    return NotfallError(
        "export-no-space",
        f"There is not enough space for {name}.",
        "Make room there, or name another directory.",
        status=507,
    )


def verify_disk(made: Path, size: int, kind: Kind, expected: Expected, tell: Tell) -> None:
    """Read the image back as an import would; raises where a block is not what is expected."""
    forget_cached(made)
    told = made.stat()
    mark = Mark(told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns)
    layer = Layer(made, Described(_WAYS[kind].format, size), mark)
    check_image(layer, lambda: tell(0))
    with opened_source(layer, lambda: tell(0)) as source:
        if source.size != size:
            raise _differs(made, f"it has {source.size} bytes and not {size}")
        for one in source.stretches():
            tell(min(one.count * BLOCK, size - one.first * BLOCK))
            for number, (is_there, wanted) in enumerate(
                zip(_hashes(one), expected(one.first, one.count), strict=True)
            ):
                if is_there != wanted:
                    raise _differs(made, f"block {one.first + number} is another one")


def _hashes(one: Stretch) -> Sequence[bytes]:
    data = one.data
    if data is None:
        return [bytes(16)] * one.count
    return [hash_block(data[at : at + BLOCK]) for at in range(0, len(data), BLOCK)]


def _differs(made: Path, why: str) -> NotfallError:
    return NotfallError(
        "export-differs",
        f"What was written to {made.name} does not read back as it should: {why}.",
        "The copy or the disk that it was written to is damaged: check the copies (notfall scrub), "
        "then export again.",
        status=500,
    )
