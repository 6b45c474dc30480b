"""Segments of versions as members of an archive; each block is proved before it is written."""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Iterator, Sequence

from notfallserver.server.media.age import encrypt
from notfallserver.server.media.archive import BLOCKS, SET, member, sparse_member
from notfallserver.server.media.contents import Contents, Segment
from notfallserver.server.pool.index import Index
from notfallserver.server.pool.version import Version
from notfallserver.wire.blocks import BLOCK, block_length, hash_block, runs_of
from notfallserver.wire.errors import NotfallError

LABEL = "notfall-medium.json"
CONTENTS = "contents.json"
AHEAD = 3
"""So many segments are read before the medium asks for them."""
END = ".age"


def label_member(contents: Contents, medium: int, written_at: str) -> list[bytes]:
    """What anybody may know who holds the medium in the hand."""
    told = {
        "format": 1,
        "set": contents.set,
        "label": contents.label,
        "medium": medium,
        "written_at": written_at,
        "server": contents.server,
        "encrypted": bool(contents.recipients),
        "recipients": list(contents.recipients),
    }
    body = json.dumps(told, indent=1, sort_keys=True).encode() + b"\n"
    return member(LABEL, [body], {SET: contents.set})


def contents_member(contents: Contents) -> list[bytes]:
    body = json.dumps(contents.to_json()).encode() + b"\n"
    if contents.recipients:
        return member(CONTENTS + END, [encrypt([body], contents.recipients)], {SET: contents.set})
    return member(CONTENTS, [body], {SET: contents.set})


def segment_member(contents: Contents, version: Version, one: Segment) -> list[bytes]:
    """With the hashes of its blocks, so that damage to one block costs no other one. Encrypted it
    is an archive of its own, under a name that tells nothing."""
    used = contents.used_of(one)
    blocks, hashes = _read(version, one.disk, used)
    start = one.span * contents.span
    disk_size = contents.copies[one.copy].size(one.disk)
    size = min(contents.span * BLOCK, disk_size - start * BLOCK)
    stretches = [
        ((first - start) * BLOCK, min(count * BLOCK, disk_size - first * BLOCK))
        for first, count in runs_of(used)
    ]
    records = {SET: contents.set, BLOCKS: b"".join(hashes).hex()}
    made = sparse_member(contents.name_of(one), size, stretches, blocks, records)
    if not contents.recipients:
        return made
    sealed = encrypt([*made, bytes(1024)], contents.recipients)
    name = f"segment-{one.number:09d}.tar{END}"
    return member(name, [sealed], {SET: contents.set})


def _read(version: Version, disk: int, used: Sequence[int]) -> tuple[list[bytes], list[bytes]]:
    size = version.manifest.disks[disk].size
    blocks, hashes = [], []
    with Index(version.idx(disk)) as index:
        raw = os.open(version.raw(disk), os.O_RDONLY | os.O_CLOEXEC)
        try:
            for first, count in runs_of(used):
                os.posix_fadvise(raw, first * BLOCK, count * BLOCK, os.POSIX_FADV_WILLNEED)
            for number in used:
                block = os.pread(raw, block_length(number, size), number * BLOCK)
                digest = index[number]
                if hash_block(block) != digest:
                    raise NotfallError(
                        "copy-damaged",
                        f"Block {number} of disk {disk} of version {version.stamp} is damaged.",
                        "Check the versions (notfall scrub), or take another one.",
                        status=409,
                    )
                blocks.append(block)
                hashes.append(digest)
            if used:  # nobody reads it again soon
                begin, end = used[0] * BLOCK, (used[-1] + 1) * BLOCK
                os.posix_fadvise(raw, begin, end - begin, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(raw)
    return blocks, hashes


class Ahead:
    """Segments from a number on, read by a thread of its own so that a tape needs not wait."""

    def __init__(self, contents: Contents, versions: Sequence[Version], first: int) -> None:
        self._queue: queue.Queue[tuple[Segment, list[bytes]] | BaseException | None] = queue.Queue(
            AHEAD
        )
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(contents, versions, first), daemon=True
        )
        self._thread.start()

    def _run(self, contents: Contents, versions: Sequence[Version], first: int) -> None:
        try:
            for one in contents.segments():
                if one.number >= first:
                    made = segment_member(contents, versions[one.copy], one)
                    if not self._put((one, made)):
                        return
            self._put(None)
        except BaseException as error:  # told where the segments are asked for
            self._put(error)

    def _put(self, item: tuple[Segment, list[bytes]] | BaseException | None) -> bool:
        while not self._ended.is_set():
            try:
                self._queue.put(item, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def __iter__(self) -> Iterator[tuple[Segment, list[bytes]]]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
