"""Reads a medium from itself alone, also a damaged one: what is torn costs only what it was.

After bytes that are no header, the next member of the same set is searched for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notfallserver.server.media.age import decrypt
from notfallserver.server.media.archive import (
    BLOCK,
    BLOCKS,
    MOST_HEADER,
    SET,
    read_header,
    read_records,
    read_sparse,
)
from notfallserver.server.media.contents import Contents
from notfallserver.server.media.segments import CONTENTS, END, LABEL
from notfallserver.server.media.streams import Stream
from notfallserver.wire.blocks import BLOCK as DISK_BLOCK
from notfallserver.wire.blocks import HASH, hash_block
from notfallserver.wire.errors import NotfallError

MOST_MEMBER = 1 << 30
MOST_LABEL = 64 << 10


@dataclass(frozen=True)
class Label:
    """What a medium says of itself; ``set`` is empty where it holds nothing yet."""

    set: str
    label: str
    medium: int = 0
    written_at: str = ""
    server: str = ""
    encrypted: bool = False

    @classmethod
    def from_json(cls, body: Any) -> Label:
        return cls(
            str(body["set"])[:80],
            str(body["label"])[:80],
            int(body["medium"]),
            str(body["written_at"])[:40],
            str(body["server"])[:80],
            body["encrypted"] is True,
        )


@dataclass(frozen=True)
class Found:
    """A member as it was read; ``data`` may be shorter or damaged."""

    name: str
    records: dict[str, str]
    data: bytes


def read_label(stream: Stream) -> tuple[Label | None, bool]:
    """The label, and whether there is anything at all on the medium."""
    first = stream.read(BLOCK)
    if not any(first):
        return None, bool(first) and any(stream.read(1 << 20))
    found = _member_at(stream, first, "")
    if found is None or found.name != LABEL:
        return None, True
    try:
        return Label.from_json(json.loads(found.data)), True
    except (ValueError, KeyError, TypeError):
        return None, True


def members(stream: Stream, of: str) -> Iterator[Found]:
    """All members of the set ``of`` up to the stream's end."""
    while len(block := stream.read(BLOCK)) == BLOCK:
        if found := _member_at(stream, block, of):
            yield found


def _member_at(stream: Stream, block: bytes, of: str) -> Found | None:
    told = read_header(block)
    if told is None or told[2] != b"x" or not 0 < told[1] <= MOST_HEADER:
        return None
    records = read_records(stream.read(told[1] + -told[1] % BLOCK)[: told[1]])
    if records is None or SET not in records or (of and records[SET] != of):
        return None
    about = read_header(stream.read(BLOCK))
    if about is None or not 0 <= about[1] <= MOST_MEMBER:
        return None
    name = records.get("GNU.sparse.name") or records.get("path") or about[0]
    if not of and about[1] > MOST_LABEL:
        return None
    data = stream.read(about[1] + -about[1] % BLOCK)[: about[1]]
    return Found(name, records, data)


def read_contents(found: Found, identity: Path | None) -> Contents:
    data = found.data
    if found.name == CONTENTS + END:
        if identity is None:
            raise need_key()
        data, words = decrypt(data, identity)
        if words:
            raise _wrong_key(words)
    try:
        return Contents.from_json(json.loads(data))
    except ValueError:
        raise NotfallError(
            "tape-unreadable",
            "What the medium tells of its content is damaged.",
            "Try another medium of the set; each tells the same.",
        ) from None


def need_key() -> NotfallError:
    return NotfallError(
        "tape-encrypted",
        "The medium is encrypted.",
        "Name the file with the secret key: --identity FILE",
        status=409,
    )


def _wrong_key(words: str) -> NotfallError:
    return NotfallError(
        "tape-wrong-key",
        f"The medium can't be opened with this key: {words[:200]}",
        "Take the secret key that was made with the public key it was written for.",
        status=409,
    )


@dataclass(frozen=True)
class Piece:
    """Blocks that were proved: offset within the member and content."""

    name: str
    good: tuple[tuple[int, bytes], ...]
    bad: tuple[int, ...]
    """Offsets of blocks that are not what they were."""


def read_segment(found: Found, of: str, identity: Path | None) -> Piece | None:
    """The blocks of a segment; None for what is none, or where nothing could be saved of it."""
    if found.name.startswith("segment-") and found.name.endswith(END):
        if identity is None:
            raise need_key()
        inner, _ = decrypt(found.data, identity)  # where it is torn, what came before it is used
        opened = _member_at(_Bytes(inner[BLOCK:]), inner[:BLOCK], of)
        return None if opened is None else _piece(opened)
    return _piece(found)


def _piece(found: Found) -> Piece | None:
    table = read_sparse(found.data)
    try:
        digests = bytes.fromhex(found.records.get(BLOCKS, ""))
    except ValueError:
        return None
    if table is None or not digests:
        return None
    stretches, at = table
    good, bad, number = [], [], 0
    for start, length in stretches:
        for offset in range(0, length, DISK_BLOCK):
            size = min(DISK_BLOCK, length - offset)
            block = found.data[at : at + size]
            digest = digests[number * HASH : (number + 1) * HASH]
            if len(block) == size and len(digest) == HASH and hash_block(block) == digest:
                good.append((start + offset, block))
            else:
                bad.append(start + offset)
            at += size
            number += 1
    return Piece(found.name, tuple(good), tuple(bad))


class _Bytes:
    """Bytes in memory as a stream."""

    unread = 0

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at]

    def skip(self, count: int) -> None:
        self._at += count

    def close(self) -> None:
        pass


def verify_medium(stream: Stream, length: int, sha256: str, check: Callable[[int], None]) -> None:
    """Read what was just written and compare; ``check`` hears each number of bytes."""
    digest = hashlib.sha256()
    while length > 0 and (part := stream.read(min(length, 4 << 20))):
        digest.update(part)
        length -= len(part)
        check(len(part))
    if length or digest.hexdigest() != sha256:
        raise NotfallError(
            "tape-differs",
            "What was written to the medium does not read back as it was written.",
            "The medium is worn out or damaged: take another one.",
            status=500,
        )
