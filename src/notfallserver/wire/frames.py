"""Binary frames of the block protocol: offer, want, holes, blocks.

Every frame begins with a fixed header: four bytes of magic that name kind and version, the disk's
number, the number of entries, the codec, and the length of the payload when unpacked. All numbers
are big-endian. Lengths are bounded and checked before anything is read from them; a frame that
breaks a rule raises :class:`~notfallserver.wire.errors.NotfallError` with code ``bad-frame``.

======  ====================================================================
NFO2    offer: ``count`` x (block number u64, hash 16 bytes)
NFW1    want: ``count`` x block number u64
NFH1    holes: ``count`` x (first block u64, number of blocks u64)
NFB2    blocks: ``count`` x (block number u64, hash 16 bytes), then the packed contents in order
======  ====================================================================
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any, List, Optional, Sequence, Tuple

from notfallserver.wire.blocks import BLOCK, HASH, Buffer, Run
from notfallserver.wire.errors import NotfallError

_zstd: Any
try:
    import zstandard as _zstd
except ImportError:
    _zstd = None

_lzma: Any
try:
    import lzma as _lzma
except ImportError:  # a Python that was built without it
    _lzma = None

_UNPACK_ERRORS = (
    (zlib.error, MemoryError)
    + ((_zstd.ZstdError,) if _zstd is not None else ())
    + ((_lzma.LZMAError,) if _lzma is not None else ())
)

HEADER = struct.Struct(">4sHBxII")
ENTRY = struct.Struct(f">Q{HASH}s")
NUMBER = struct.Struct(">Q")
RUN = struct.Struct(">QQ")

BATCH_BLOCKS = 64
"""Most blocks in one frame of contents: 4 MiB."""
OFFER_BLOCKS = 4096
"""Most blocks in one offer or want."""
HOLE_RUNS = 16384
"""Most runs in one frame of holes."""
FRAME_LIMIT = HEADER.size + BATCH_BLOCKS * (ENTRY.size + BLOCK) + 65536
"""No frame is longer than this, packed or not, in bytes."""

PLAIN, ZLIB, ZSTD, XZ = 0, 1, 2, 3
_XZ_MEMORY = 16 << 20
"""Most that unpacking may take beside its result; the levels in use need 2 MiB."""

Offer = List[Tuple[int, bytes]]


@dataclass(frozen=True)
class BlocksFrame:
    """Contents of some blocks of one disk; ``payload`` is the blocks one after another."""

    disk: int
    entries: Offer
    payload: Buffer


def bad_frame(why: str) -> NotfallError:
    return NotfallError(
        "bad-frame",
        f"A message of the block protocol is broken: {why}.",
        "Update agent and server to the same version and run the replication again.",
    )


def best_codec(offered: Sequence[int] = (PLAIN, ZLIB, ZSTD)) -> int:
    """The best codec for any line that both sides have; ``offered`` is what the other side reads.

    xz is not among them: it is so slow that it pays on thin lines only.
    """
    if _zstd is not None and ZSTD in offered:
        return ZSTD
    return ZLIB if ZLIB in offered else PLAIN


def readable_codecs() -> List[int]:
    """The codecs this side can unpack."""
    found = [PLAIN, ZLIB]
    return found + [one for one, there in ((ZSTD, _zstd), (XZ, _lzma)) if there is not None]


def pack(codec: int, payload: Buffer, level: int = 1) -> Tuple[int, Buffer]:
    """The codec used and the packed content; plain where packing gains nothing."""
    packed: bytes
    if codec == ZSTD and _zstd is not None:
        packed = _zstd.ZstdCompressor(level=level).compress(payload)
    elif codec == ZLIB:
        packed = zlib.compress(payload, level)
    elif codec == XZ and _lzma is not None:
        # Without xz's own checksum: each block is checked against its hash.
        packed = _lzma.compress(payload, _lzma.FORMAT_XZ, _lzma.CHECK_NONE, level)
    else:
        return PLAIN, payload
    if len(packed) >= len(payload):
        return PLAIN, payload
    return codec, packed


def _unpack(codec: int, packed: Buffer, length: int) -> Buffer:
    plain: Buffer
    try:
        if codec == PLAIN:
            plain = packed
        elif codec == ZLIB:
            unpacker = zlib.decompressobj()
            plain = unpacker.decompress(packed, length + 1)
        elif codec == ZSTD and _zstd is not None:
            plain = _zstd.ZstdDecompressor().decompress(
                bytes(packed), max_output_size=length, allow_extra_data=False
            )
        elif codec == XZ and _lzma is not None:
            opener = _lzma.LZMADecompressor(_lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
            plain = opener.decompress(packed, length + 1)
        else:
            raise bad_frame(f"codec {codec} is not known here")
    except _UNPACK_ERRORS as error:
        raise bad_frame(f"its content cannot be unpacked ({error})") from None
    if len(plain) != length:
        raise bad_frame("its content has another length than it says")
    return plain


def _open(frame: Buffer, magic: bytes, most: int, entry: int) -> Tuple[int, int, int, int]:
    """Check header and lengths; returns disk, count, codec, length of the payload."""
    if len(frame) < HEADER.size:
        raise bad_frame("it is cut short")
    got, disk, codec, count, length = HEADER.unpack_from(frame)
    if got != magic:
        raise bad_frame("it is of another kind or version")
    if not 0 < count <= most:
        raise bad_frame(f"it holds {count} entries, allowed are 1 to {most}")
    if len(frame) < HEADER.size + count * entry:
        raise bad_frame("it is cut short")
    if magic != b"NFB2" and len(frame) != HEADER.size + count * entry:
        raise bad_frame("it is longer than it says")
    return disk, count, codec, length


def write_offer(disk: int, offer: Offer) -> bytes:
    return HEADER.pack(b"NFO2", disk, PLAIN, len(offer), 0) + _entries(offer)


def _entries(entries: Offer) -> bytes:
    flat = [part for entry in entries for part in entry]
    return struct.pack(">" + f"Q{HASH}s" * len(entries), *flat)


def read_offer(frame: Buffer) -> Tuple[int, Offer]:
    disk, count, _, _ = _open(frame, b"NFO2", OFFER_BLOCKS, ENTRY.size)
    body = memoryview(frame)[HEADER.size : HEADER.size + count * ENTRY.size]
    return disk, list(ENTRY.iter_unpack(body))


def write_want(disk: int, numbers: Sequence[int]) -> bytes:
    head = HEADER.pack(b"NFW1", disk, PLAIN, len(numbers), 0)
    return head + struct.pack(f">{len(numbers)}Q", *numbers)


def read_want(frame: Buffer) -> Tuple[int, List[int]]:
    disk, count, _, _ = _open(frame, b"NFW1", OFFER_BLOCKS, NUMBER.size)
    return disk, list(struct.unpack_from(f">{count}Q", frame, HEADER.size))


def write_holes(disk: int, runs: Sequence[Run]) -> bytes:
    head = HEADER.pack(b"NFH1", disk, PLAIN, len(runs), 0)
    return head + b"".join(RUN.pack(first, count) for first, count in runs)


def read_holes(frame: Buffer) -> Tuple[int, List[Run]]:
    disk, count, _, _ = _open(frame, b"NFH1", HOLE_RUNS, RUN.size)
    body = memoryview(frame)[HEADER.size : HEADER.size + count * RUN.size]
    return disk, list(RUN.iter_unpack(body))


def blocks_parts(
    disk: int, entries: Offer, length: int, codec: int, packed: Buffer
) -> List[Buffer]:
    """A frame of contents in parts, so that a large one need not be copied.

    ``length`` is the content's before :func:`pack` gave ``codec`` and ``packed``.
    """
    head = HEADER.pack(b"NFB2", disk, codec, len(entries), length)
    return [head + _entries(entries), packed]


def write_blocks(disk: int, entries: Offer, payload: Buffer, codec: int) -> bytes:
    return b"".join(blocks_parts(disk, entries, len(payload), *pack(codec, payload)))


def contents_start(lead: Buffer) -> int:
    """Where the contents begin in a frame, told by its first ``HEADER.size`` bytes; 0: nowhere."""
    magic, _, _, count, _ = HEADER.unpack(lead)
    return HEADER.size + count * ENTRY.size if magic == b"NFB2" and count <= BATCH_BLOCKS else 0


def read_blocks(frame: Buffer, last_block: Optional[int] = None, tail: int = BLOCK) -> BlocksFrame:
    """Unpack contents; ``last_block`` may be shorter than a block: ``tail`` bytes."""
    if len(frame) > FRAME_LIMIT:
        raise bad_frame("it is too long")
    disk, count, codec, length = _open(frame, b"NFB2", BATCH_BLOCKS, ENTRY.size)
    if length > count * BLOCK:
        raise bad_frame("its content is longer than its blocks")
    view = memoryview(frame)
    start = HEADER.size + count * ENTRY.size
    entries = list(ENTRY.iter_unpack(view[HEADER.size : start]))
    expected = sum(tail if number == last_block else BLOCK for number, _ in entries)
    if length != expected:
        raise bad_frame("its content has another length than its blocks")
    return BlocksFrame(disk, entries, _unpack(codec, view[start:], length))
