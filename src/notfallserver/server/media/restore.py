"""Puts versions together again from media, as they were, and knows which blocks are missing.

A version comes to a directory as in the pool: ``manifest.json``, raw images, block indices. It is
whole when each index, made of what was read, is the one whose hash the manifest has.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notfallserver.server.host.clone import marked_runs
from notfallserver.server.host.files import replace_json, sync_path
from notfallserver.server.media.contents import Contents, Copy, Segment
from notfallserver.server.media.reader import Piece
from notfallserver.server.pool.index import Index, hash_index, make_index
from notfallserver.server.pool.layout import MANIFEST, idx_name, raw_name
from notfallserver.wire.blocks import BLOCK, Run, block_count, hash_block
from notfallserver.wire.errors import NotfallError


@dataclass(frozen=True)
class Choice:
    """``primary``: name or UUID, empty for all; ``stamp``: empty for all; ``disk``: -1 for all."""

    primary: str = ""
    stamp: str = ""
    disk: int = -1

    def takes(self, copy: Copy) -> bool:
        return self.primary in ("", copy.name, copy.primary) and self.stamp in ("", copy.stamp)


class _Disk:
    """One disk being put together; ``left`` marks the blocks that are still missing."""

    def __init__(self, directory: Path, copy: Copy, disk: int, stack: ExitStack) -> None:
        self.size = copy.size(disk)
        self.raw, self.idx = directory / raw_name(disk), directory / idx_name(disk)
        self.left = bytearray(block_count(self.size))
        for first, count in copy.used[disk]:
            self.left[first : first + count] = b"\1" * count
        self._handle = os.open(self.raw, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        stack.callback(os.close, self._handle)
        os.ftruncate(self._handle, self.size)
        make_index(self.idx, self.size)
        self._index = stack.enter_context(Index(self.idx, write=True))

    def put(self, offset: int, block: bytes) -> int:
        """A proved block; returns its bytes, 0 where it was there or has no place."""
        number = offset // BLOCK
        if offset % BLOCK or offset + len(block) > self.size or not self.left[number]:
            return 0
        os.pwrite(self._handle, block, offset)
        self._index[number] = hash_block(block)
        self.left[number] = 0
        return len(block)

    def sync(self) -> None:
        os.fsync(self._handle)
        self._index.sync()


class Rebuild:
    """All versions that were chosen; each in ``directory``/folder."""

    def __init__(self, contents: Contents, directory: Path, choice: Choice) -> None:
        self.contents = contents
        self.directory = directory
        self.copies = [n for n, one in enumerate(contents.copies) if choice.takes(one)]
        if not self.copies:
            raise NotfallError(
                "tape-not-on-it",
                "The set holds no such version.",
                "See what it holds: notfall tape list",
                status=404,
            )
        self._stack = ExitStack()
        self._disks: dict[tuple[int, int], _Disk] = {}
        self.whole_disks = choice.disk < 0
        for at in self.copies:
            copy = contents.copies[at]
            place = directory / copy.folder
            place.mkdir(parents=True, mode=0o700)
            for disk in range(len(copy.used)):
                if choice.disk in (-1, disk):
                    self._disks[at, disk] = _Disk(place, copy, disk, self._stack)
        if not self._disks:
            raise NotfallError(
                "tape-not-on-it",
                "The version has no such disk.",
                "Disks are counted from 0.",
                status=404,
            )
        self._wanted = {
            contents.name_of(one): one
            for one in contents.segments()
            if (one.copy, one.disk) in self._disks
        }
        self.total = sum(sum(one.left) for one in self._disks.values()) * BLOCK

    def wants(self, name: str) -> bool:
        """Whether a segment of this name is still needed."""
        return name in self._wanted

    def put(self, piece: Piece) -> int:
        """Returns the bytes that are new."""
        one = self._wanted.get(piece.name)
        if one is None:
            return 0
        disk = self._disks[one.copy, one.disk]
        start = one.span * self.contents.span * BLOCK
        new = sum(disk.put(start + offset, block) for offset, block in piece.good)
        if not any(self._left(one)):
            del self._wanted[piece.name]
        return new

    def _left(self, one: Segment) -> bytearray:
        span = self.contents.span
        return self._disks[one.copy, one.disk].left[one.span * span : (one.span + 1) * span]

    @property
    def complete(self) -> bool:
        return not self._wanted

    def needs_medium(self, first: int, end: int) -> bool:
        return any(first <= one.number < end for one in self._wanted.values())

    def missing(self) -> list[dict[str, Any]]:
        """By version and disk, the runs of blocks that no medium gave."""
        found = []
        for (at, disk), one in self._disks.items():
            runs: Sequence[Run] = marked_runs(one.left)
            if runs:
                copy = self.contents.copies[at]
                told = {"primary": copy.name, "version": copy.stamp, "disk": disk}
                found.append({**told, "blocks": [list(run) for run in runs]})
        return found

    def finish(self) -> None:
        """All is on the disk and proved; where something is missing, ``missing.json`` tells it."""
        for one in self._disks.values():
            one.sync()
        self._stack.close()
        missing = self.missing()
        for at in self.copies:
            copy = self.contents.copies[at]
            place = self.directory / copy.folder
            replace_json(place / MANIFEST, dict(copy.manifest))
            mine = [m for m in missing if (m["primary"], m["version"]) == (copy.name, copy.stamp)]
            if mine:
                replace_json(place / "missing.json", mine)
            for disk, told in enumerate(copy.manifest["disks"]):
                one_disk = self._disks.get((at, disk))
                if one_disk is None or any(one_disk.left):
                    continue
                if hash_index(one_disk.idx) != told["index_hash"]:
                    raise NotfallError(
                        "tape-wrong",
                        f"Disk {disk} of version {copy.stamp} is not what was written.",
                        "Take another set; this one can't be trusted.",
                        status=500,
                    )
            sync_path(place)

    def close(self) -> None:
        self._stack.close()
