"""Blocks, their hashes, and the block index.

Everything is counted in blocks of 64 KiB from the start of a disk; the last block of a disk may
be shorter. A disk's index holds 16 bytes (the first half of SHA-256) for each block in order; 16
zero bytes say that the block is a hole: unused by its filesystem, or all zero.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Iterable, Iterator, List, Tuple, Union

BLOCK = 65536
HASH = 16
HOLE = bytes(HASH)
UNKNOWN = b"\xff" * HASH
"""In an index: being written, or never looked at. In a frame of contents: hash it yourself."""

_ZERO = bytes(BLOCK)

Buffer = Union[bytes, bytearray, memoryview]
Run = Tuple[int, int]  # first block, number of blocks


def is_zero(data: Buffer) -> bool:
    """Whether a block holds nothing but zeros."""
    # Three bytes tell for most blocks; bytes compare far faster than views.
    if data[0] or data[-1] or data[len(data) // 2]:
        return False
    return bytes(data) == _ZERO[: len(data)]


def hash_block(data: Buffer) -> bytes:
    """The 16-byte hash of one block's content; :data:`HOLE` where it is all zero."""
    if is_zero(data):
        return HOLE
    return sha256(data).digest()[:HASH]


def block_count(size: int) -> int:
    """How many blocks a disk of ``size`` bytes has."""
    return (size + BLOCK - 1) // BLOCK


def block_length(number: int, size: int) -> int:
    """How many bytes block ``number`` of a disk of ``size`` bytes has."""
    return min(BLOCK, size - number * BLOCK)


def runs_of(numbers: Iterable[int]) -> List[Run]:
    """Ascending block numbers as runs of (first, count)."""
    runs: List[Run] = []
    first = count = 0
    for number in numbers:
        if count and number == first + count:
            count += 1
            continue
        if count:
            runs.append((first, count))
        first, count = number, 1
    if count:
        runs.append((first, count))
    return runs


def split_runs(runs: Iterable[Run], most: int) -> Iterator[Run]:
    """The same blocks in runs of at most ``most``, cut at multiples of ``most``.

    Cutting at multiples keeps reads aligned, and the same blocks fall into the same batch in
    every pass.
    """
    for first, count in runs:
        end = first + count
        while first < end:
            step = min(end, (first // most + 1) * most) - first
            yield first, step
            first += step
