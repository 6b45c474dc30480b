"""The client's side of NBD, as much as is needed to read: one connection, one request at a time.

Numbers are big-endian, offsets and lengths in bytes. The other side has a foreign image open, so
what it says is bounded and checked. With structured replies it tells holes without sending zeros.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from notfallserver.wire.errors import NotfallError

MOST = 32 << 20
"""Bytes that one request may ask for: what every server must be able to give."""
_MAGIC, _HAVE_OPTIONS = b"NBDMAGIC", b"IHAVEOPT"
_OPTION = struct.Struct(">8sII")
_REPLY = struct.Struct(">QIII")
_REPLY_MAGIC = 0x3E889045565A9
_REQUEST = struct.Struct(">IHHQQI")
_REQUEST_MAGIC = 0x25609513
_CHUNK = struct.Struct(">IHHQI")
_CHUNK_MAGIC = 0x668E33EF
_FIXED, _NO_ZEROES = 1, 2
_GO, _STRUCTURED = 7, 8
_ACK, _INFO = 1, 3
_READ, _DISCONNECT = 0, 2
_DONE = 1
_NONE, _DATA, _HOLE = 0, 1, 2
_ERROR = 1 << 15


@dataclass(frozen=True)
class Chunk:
    """A stretch of what was asked for; without ``data`` it is a hole and reads as zeros."""

    offset: int
    length: int
    data: bytes | None = None


class Export:
    """An open export of ``size`` bytes; closed as a context manager."""

    def __init__(self, path: Path, timeout: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(str(path))
            self._greet()
            self._choose_structured()
            self.size = self._go()
        except BaseException:
            self._socket.close()
            raise
        self._handle = 0

    def __enter__(self) -> Export:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._socket.sendall(_REQUEST.pack(_REQUEST_MAGIC, 0, _DISCONNECT, 0, 0, 0))
        except OSError:
            pass
        self._socket.close()

    def read(self, offset: int, length: int) -> list[Chunk]:
        """In order, without gaps; ``length`` is at most :data:`MOST`."""
        self._handle += 1
        self._socket.sendall(_REQUEST.pack(_REQUEST_MAGIC, 0, _READ, self._handle, offset, length))
        found = sorted(self._chunks(offset, offset + length), key=lambda one: one.offset)
        at = offset
        for one in found:
            if one.offset != at:
                raise _broken("it left something out")
            at += one.length
        if at != offset + length:
            raise _broken("it left something out")
        return found

    def _chunks(self, start: int, end: int) -> Iterator[Chunk]:
        while True:
            magic, flags, kind, handle, length = _CHUNK.unpack(self._take(_CHUNK.size))
            if magic != _CHUNK_MAGIC or handle != self._handle or length > MOST + 8:
                raise _broken("its answer is none")
            body = self._take(length)
            if kind & _ERROR:
                raise _unreadable(start, body)
            if kind in (_DATA, _HOLE):
                if length < 8 + 4 * (kind == _HOLE):
                    raise _broken("its answer is cut short")
                offset = int.from_bytes(body[:8], "big")
                data = body[8:] if kind == _DATA else None
                size = len(body) - 8 if kind == _DATA else int.from_bytes(body[8:12], "big")
                if not start <= offset <= offset + size <= end:
                    raise _broken("it tells of what nobody asked for")
                yield Chunk(offset, size, data)
            elif kind != _NONE:
                raise _broken(f"it has an answer of the kind {kind}")
            if flags & _DONE:
                return

    # -- beginning -------------------------------------------------------------------------------

    def _greet(self) -> None:
        greeting = self._take(18)
        if greeting[:16] != _MAGIC + _HAVE_OPTIONS:
            raise _broken("it does not speak NBD")
        if not int.from_bytes(greeting[16:], "big") & _FIXED:
            raise _broken("it is too old")
        self._socket.sendall(struct.pack(">I", _FIXED | _NO_ZEROES))

    def _choose_structured(self) -> None:
        self._socket.sendall(_OPTION.pack(_HAVE_OPTIONS, _STRUCTURED, 0))
        kind, _ = self._option_reply(_STRUCTURED)
        if kind != _ACK:
            raise _broken("it can't tell holes")

    def _go(self) -> int:
        told = struct.pack(">IH", 0, 0)  # the export without a name, no more information
        self._socket.sendall(_OPTION.pack(_HAVE_OPTIONS, _GO, len(told)) + told)
        size = -1
        while True:
            kind, body = self._option_reply(_GO)
            if kind == _ACK and size >= 0:
                return size
            if kind == _INFO:
                if body[:2] == b"\0\0" and len(body) >= 10:
                    size = int.from_bytes(body[2:10], "big")
            else:
                raise _broken("it refuses")

    def _option_reply(self, option: int) -> tuple[int, bytes]:
        magic, about, kind, length = _REPLY.unpack(self._take(_REPLY.size))
        if magic != _REPLY_MAGIC or about != option or length > 1 << 16:
            raise _broken("its answer is none")
        return kind, self._take(length)

    def _take(self, length: int) -> bytes:
        parts = bytearray()
        while len(parts) < length:
            try:
                part = self._socket.recv(min(length - len(parts), 1 << 20))
            except TimeoutError:
                raise _broken("it does not answer") from None
            except OSError as error:
                raise _broken(str(error)) from None
            if not part:
                raise _broken("it has ended")
            parts += part
        return bytes(parts)


def _broken(why: str) -> NotfallError:
    return NotfallError(
        "image-reader-failed",
        f"The program that reads the image does not do its work: {why}.",
        "Try again; if it happens again, the image may be damaged: export it again.",
        retry=True,
        status=500,
    )


def _unreadable(offset: int, body: bytes) -> NotfallError:
    number = int.from_bytes(body[:4], "big")
    told = body[6 : 6 + int.from_bytes(body[4:6], "big")].decode(errors="replace")
    return NotfallError(
        "image-damaged",
        f"The image can't be read at byte {offset} of its disk: {told or f'error {number}'}.",
        "Look at the disk that the image lies on; copy or export it again.",
    )
