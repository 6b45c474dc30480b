"""A screenshot as PNG. QEMU delivers PPM (P6), which browsers don't show."""

from __future__ import annotations

import re
import struct
import zlib

from notfallserver.wire.errors import NotfallError

_PPM = re.compile(rb"P6\s+(\d+)\s+(\d+)\s+255\s")


def ppm_to_png(ppm: bytes) -> bytes:
    """Convert an 8-bit P6 picture; anything else is an error."""
    head = _PPM.match(ppm)
    if head is None:
        raise NotfallError("no-picture", "The machine's screen shows nothing.", retry=True)
    width, height = int(head[1]), int(head[2])
    pixels = memoryview(ppm)[head.end() :]
    stride = width * 3
    if len(pixels) < stride * height:
        raise NotfallError("no-picture", "The picture of the screen is cut short.", retry=True)
    rows = b"".join(b"\0" + bytes(pixels[y * stride : (y + 1) * stride]) for y in range(height))
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
            _chunk(b"IDAT", zlib.compress(rows, 6)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
