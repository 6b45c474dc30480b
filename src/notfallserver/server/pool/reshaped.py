"""A version on disks of other sizes: what a target gets whose disks don't fit the original's.

``reshaped/<stamp>/`` holds raw files and indices as a version does, and counts once its seal
``reshaped.json`` is there, which is written last. Blocks that are as in the version share its
space, and its hashes; only what was written while it was reshaped is hashed. It goes when the
recovery is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from notfallserver.server.host.clone import (
    Extent,
    clone_file,
    copy_range,
    extents,
    moved_extents,
    punch_hole,
    unlike_blocks,
    written_stretches,
)
from notfallserver.server.host.files import discard_tree, read_json, replace_json, sync_path
from notfallserver.server.pool import layout
from notfallserver.server.pool.index import Index, hash_index, make_index
from notfallserver.server.pool.room import pool_may_be_full
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.pool.version import DiskImage, Version
from notfallserver.wire.blocks import BLOCK, HASH, block_count, block_length, hash_block
from notfallserver.wire.errors import NotfallError

Shape = Sequence[Mapping[str, Any]]
"""For each disk of the target: ``sources`` (disks of the version) and ``size`` in bytes."""
BOOT_CODE = 440
GPT_SECTORS = 34
PAGE = 4096
READ_BLOCKS = 64


@dataclass(frozen=True)
class Piece:
    """A stretch that an image takes over from disk ``disk`` of the version, in bytes."""

    disk: int
    start: int
    to: int
    length: int


def find_reshaped(store: PrimaryStore, stamp: str, shape: Shape) -> Version | None:
    """The reshaped version, if it was made for just these disks."""
    path = store.paths.reshaped / layout.check_stamp(stamp)
    if not (path / layout.RESHAPED).exists():
        return None
    told = read_json(path / layout.RESHAPED)
    if told.get("shape") != [dict(one) for one in shape]:
        return None
    images = tuple(DiskImage(**one) for one in told["disks"])
    return Version(path, replace(store.version(stamp).manifest, disks=images))


def last_reshaped(store: PrimaryStore, shape: Shape) -> Version | None:
    """The newest for these disks: what had to be copied file by file goes on from there."""
    paths = store.paths.reshaped.iterdir() if store.paths.reshaped.exists() else ()
    for path in sorted(paths, reverse=True):
        try:
            if (found := find_reshaped(store, path.name, shape)) is not None:
                return found
        except NotfallError:
            continue  # its version is gone, or it is no version's
    return None


def drop_reshaped(store: PrimaryStore, but: str = "") -> None:
    """Remove all of a primary, except that of the version ``but``."""
    for one in store.paths.reshaped.iterdir() if store.paths.reshaped.exists() else ():
        if one.name != but:
            discard_tree(one)


class Reshaping:
    """One that is being made: use as a context manager; without its seal nothing is left."""

    def __init__(
        self, store: PrimaryStore, version: Version, shape: Shape, last: Version | None = None
    ) -> None:
        """``last``: the one before, see :func:`last_reshaped`."""
        self._last = last
        self._copied: dict[int, list[tuple[int, int]]] = {}
        self._version = version
        self._shape = shape
        self.directory = store.paths.reshaped / version.stamp
        self.sources: tuple[Path, ...] = ()

    def __enter__(self) -> Reshaping:
        discard_tree(self.directory)
        self.directory.mkdir(parents=True)
        disks = self._version.manifest.disks
        with pool_may_be_full():
            for one in disks:
                clone_file(self._version.raw(one.index), self._source(one.index))
        self.sources = tuple(self._source(one.index) for one in disks)
        return self

    def __exit__(self, *_: object) -> None:
        if not (self.directory / layout.RESHAPED).exists():
            discard_tree(self.directory)

    def _source(self, index: int) -> Path:
        return self.directory / f"source{index}.raw"

    def changed(self) -> list[int]:
        """The target's disks that are not just one of the version's."""
        sizes = {one.index: one.size for one in self._version.manifest.disks}
        return [
            at
            for at, one in enumerate(self._shape)
            if len(one["sources"]) > 1 or one["size"] != sizes[one["sources"][0]]
        ]

    def image(self, at: int) -> Path:
        """The target's disk ``at``; made empty where it is not there."""
        path = self.directory / layout.raw_name(at)
        if not path.exists():
            with path.open("xb") as stream:
                stream.truncate(self._shape[at]["size"])
                if self._last is not None:
                    self._go_on(at, stream.fileno(), self._last)
        return path

    def _go_on(self, at: int, image: int, last: Version) -> None:
        """What was copied file by file for the last one: only what differs is written then."""
        copied = read_json(last.path / layout.RESHAPED).get("copied", {}).get(str(at), [])
        with last.raw(at).open("rb") as source:
            for start, length in copied:
                for begin, end in written_stretches(source.fileno(), start, start + length):
                    copy_range(source.fileno(), begin, image, begin, end - begin)

    def compose(self, told: Mapping[int, Mapping[str, Any]]) -> dict[int, list[Piece]]:
        """Put the pieces into place; ``told`` is what the appliance says of each changed disk."""
        made: dict[int, list[Piece]] = {}
        for at, one in enumerate(self._shape):
            base = one["sources"][0]
            if at not in told:
                size = self._version.manifest.disks[base].size
                clone_file(self.sources[base], self.directory / layout.raw_name(at))
                made[at] = [Piece(base, 0, 0, size)]
                continue
            made[at] = self._pieces(at, told[at])
            with pool_may_be_full():
                self._copy(at, made[at])
        return made

    def _pieces(self, at: int, told: Mapping[str, Any]) -> list[Piece]:
        """Checked: the answer was written inside a machine that opened a foreign image."""
        wanted = self._shape[at]
        pieces: list[Piece] = []
        try:
            places = [
                (int(one["disk"]), int(one["from"]), int(one["to"]), int(one["size"]), one["how"])
                for one in told["places"]
            ]
            base = wanted["sources"][0]
            sector = self._version.manifest.machine.disks[base].sector
            first = int(told["first"])
            if told["label"] in ("dos", "gpt"):
                begin = sector if told["label"] == "dos" else GPT_SECTORS * sector
                pieces.append(Piece(base, 0, 0, BOOT_CODE))
                if begin < first:
                    pieces.append(Piece(base, begin, begin, first - begin))
            for disk, start, to, size, how in places:
                if how == "swap":
                    size = min(size, BLOCK)
                if how == "copied":
                    if to < 0 or not 0 < size <= wanted["size"] - to:
                        raise ValueError(f"copied to {to}")
                    self._copied.setdefault(at, []).append((to, size))
                else:
                    pieces.append(Piece(disk, start, to, size))
        except (KeyError, TypeError, ValueError) as error:
            raise _bad(str(error)) from None
        pieces.sort(key=lambda one: one.to)
        end = 0
        for piece in pieces:
            known = piece.disk in wanted["sources"] and piece.start >= 0 and piece.length > 0
            if not known or piece.to < end or piece.to + piece.length > wanted["size"]:
                raise _bad(f"piece {piece}")
            end = piece.to + piece.length
            if piece.start + piece.length > self.sources[piece.disk].stat().st_size:
                raise _bad(f"piece {piece}")
        return pieces

    def _copy(self, at: int, pieces: Sequence[Piece]) -> None:
        with self.image(at).open("r+b") as image:
            for one in pieces:
                # what was taken over from the last round may have lain elsewhere; holes are zeros
                punch_hole(image.fileno(), one.to, one.length)
                with self.sources[one.disk].open("rb") as source:
                    end = one.start + one.length
                    for start, stop in written_stretches(source.fileno(), one.start, end):
                        to = one.to + start - one.start
                        # the end of a partition may be no whole block of the pool's
                        body = (stop - start) // PAGE * PAGE
                        for skip, length in ((0, body), (body, stop - start - body)):
                            if length:
                                places = start + skip, image.fileno(), to + skip
                                copy_range(source.fileno(), *places, length)

    def seal(
        self, pieces: Mapping[int, Sequence[Piece]], progress: Callable[[int, int], None]
    ) -> Version:
        """Index all disks; from now on it is the reshaped version."""
        images = []
        for at in range(len(self._shape)):
            with pool_may_be_full():
                images.append(self._index(at, pieces[at], progress))
        for source in self.sources:
            source.unlink()
        told = {
            "format": 1,
            "version": self._version.stamp,
            "shape": [dict(one) for one in self._shape],
            "disks": [vars(one) for one in images],
            "copied": {str(at): stretches for at, stretches in self._copied.items()},
        }
        replace_json(self.directory / layout.RESHAPED, told)
        sync_path(self.directory)
        return Version(self.directory, replace(self._version.manifest, disks=tuple(images)))

    def _index(
        self, at: int, pieces: Sequence[Piece], progress: Callable[[int, int], None]
    ) -> DiskImage:
        """Hashes of the version where the image shares its blocks, new ones elsewhere."""
        raw = self.directory / layout.raw_name(at)
        sync_path(raw)
        size = raw.stat().st_size
        idx = self.directory / layout.idx_name(at)
        make_index(idx, size)
        whole = [one for one in pieces if (one.to - one.start) % BLOCK == 0]
        known: list[Extent] = []
        for one in whole:
            known += moved_extents(self._version.raw(one.disk), one.start, one.to, one.length)
        runs = unlike_blocks(known, extents(raw), size)
        marks = bytearray(block_count(size))
        for first, count in runs:
            marks[first : first + count] = b"\1" * count
        for one in whole:  # blocks of which a piece has only a part
            for edge in (one.to, one.to + one.length):
                if edge % BLOCK:
                    marks[edge // BLOCK] = 1
        with Index(idx, write=True) as index, raw.open("rb", buffering=0) as image:
            for one in whole:
                with Index(self._version.idx(one.disk)) as old:
                    shift = (one.to - one.start) // BLOCK
                    last = (one.start + one.length) // BLOCK
                    for first, entries in old.stretches(-(-one.start // BLOCK)):
                        if first >= last:
                            break
                        index.put(first + shift, entries[: (last - first) * HASH])
            total = sum(marks) * BLOCK
            done = 0
            number = marks.find(1)
            while number >= 0:
                end = marks.find(0, number)
                end = min(number + READ_BLOCKS, end if end >= 0 else len(marks))
                image.seek(number * BLOCK)
                view = memoryview(image.read((end - number) * BLOCK))
                for here in range(number, end):
                    start = (here - number) * BLOCK
                    index[here] = hash_block(view[start : start + block_length(here, size)])
                done += (end - number) * BLOCK
                progress(done, total)
                number = marks.find(1, end)
            index.sync()
            used = index.used()
        return DiskImage(at, size, used, hash_index(idx))


def _bad(why: str) -> NotfallError:
    return NotfallError(
        "bad-answer",
        f"The appliance's answer about the reshaped image is not understood ({why[:200]}).",
        "Build the rescue medium anew, so that it fits the server.",
        status=500,
    )
