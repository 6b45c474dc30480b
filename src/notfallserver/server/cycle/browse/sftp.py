"""Asks an appliance's SFTP server (version 3, read-only); many threads may share one line.

What answers opened a foreign image and may be under its control: lengths are bounded, every
exchange has a deadline, and an answer that isn't understood ends the line. Names and paths are
bytes, as in the image: the libraries for SFTP give up a whole folder for one name that is no UTF-8.
Nothing here follows a link; see :mod:`tree`.
"""

from __future__ import annotations

import socket
import stat
import struct
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from notfallserver.wire.errors import NotfallError

LIMIT_S = 30.0
"""An exchange that takes longer is taken for the appliance's death."""
PIECE = 128 << 10
"""Bytes asked for in one request; some servers give less."""
AT_ONCE = 8
"""Requests of one reading under way together."""
PACKET_LIMIT = 1 << 20
NAME_LIMIT = 255

_INIT, _VERSION, _STATUS, _HANDLE, _DATA, _NAME, _ATTRS = 1, 2, 101, 102, 103, 104, 105
_OPEN, _CLOSE, _READ, _LSTAT, _OPENDIR, _READDIR, _READLINK = 3, 4, 5, 7, 11, 12, 19
_READ_ONLY = 1
_END, _ABSENT = 1, 2


class Kind(StrEnum):
    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"  # device, pipe or socket: never opened


_KINDS = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.FOLDER, stat.S_IFLNK: Kind.LINK}


@dataclass(frozen=True)
class Attributes:
    """``size`` in bytes, ``modified`` in seconds since 1970, ``mode`` without the kind."""

    kind: Kind
    size: int = 0
    modified: int = 0
    mode: int = 0
    owner: int = 0
    group: int = 0


class SftpClient:
    """One connection; what goes wrong in an exchange breaks it for everybody, for good."""

    def __init__(self, line: socket.socket, limit_s: float = LIMIT_S) -> None:
        self._line = line
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._number = 0
        self.broken = False
        self.used = time.monotonic()
        with self._lock:
            self._send(struct.pack(">BI", _INIT, 3))
            kind, _ = self._receive(time.monotonic() + limit_s)
        if kind != _VERSION:
            raise self.lose()

    def close(self) -> None:
        """Whoever waits for an answer fails at once."""
        self.broken = True
        try:
            self._line.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other side was quicker
        self._line.close()

    def look(self, path: bytes) -> Attributes:
        """What lies at ``path``; a link is not followed."""
        return self._one(_LSTAT, _text(path), _ATTRS).attributes()

    def target(self, path: bytes) -> bytes:
        """Where the link at ``path`` points, as it is written there."""
        answer = self._one(_READLINK, _text(path), _NAME)
        answer.number()
        return answer.text()

    def entries(self, path: bytes) -> Iterator[tuple[bytes, Attributes]]:
        """What is in a folder, in no order."""
        handle = self._one(_OPENDIR, _text(path), _HANDLE).text()
        try:
            while (answer := self._part(_READDIR, _text(handle), _NAME)) is not None:
                yield from self._names(answer)
        finally:
            self._let_go(handle)

    def read(self, path: bytes, start: int, length: int) -> Generator[bytes, None, None]:
        """Exactly ``length`` bytes of a regular file from ``start``; less is an error."""
        handle = self._one(_OPEN, _text(path) + struct.pack(">II", _READ_ONLY, 0), _HANDLE).text()
        try:
            at, end = start, start + length
            while at < end:
                for piece in self._pieces(handle, at, min(end, at + PIECE * AT_ONCE)):
                    at += len(piece)
                    yield piece
        finally:
            self._let_go(handle)

    def _pieces(self, handle: bytes, at: int, end: int) -> list[bytes]:
        """Some bytes from ``at`` on, at least one."""
        wanted = [(one, min(PIECE, end - one)) for one in range(at, end, PIECE)]
        asked = [(_READ, _text(handle) + struct.pack(">QI", *one)) for one in wanted]
        pieces = []
        for answer, (_, length) in zip(self._ask(asked), wanted, strict=True):
            if answer.kind == _STATUS:
                break
            piece = self._checked(answer, _DATA).text()
            if not 0 < len(piece) <= length:
                raise self.lose()
            pieces.append(piece)
            if len(piece) < length:
                break  # what follows does not join on; it is asked for again
        if not pieces:
            raise NotfallError(
                "file-unreadable",
                "The file can't be read to its end.",
                "Try another copy of the server.",
                status=500,
            )
        return pieces

    def _names(self, answer: _Answer) -> Iterator[tuple[bytes, Attributes]]:
        for _ in range(answer.number()):
            name = answer.text()
            answer.text()  # the line of ls -l
            attributes = answer.attributes()
            if name in (b".", b".."):
                continue
            if not name or len(name) > NAME_LIMIT or b"/" in name or b"\0" in name:
                raise self.lose()
            yield name, attributes

    def _let_go(self, handle: bytes) -> None:
        if not self.broken:
            self._ask([(_CLOSE, _text(handle))])

    # -- exchanges -------------------------------------------------------------------------------

    def _one(self, kind: int, body: bytes, expected: int) -> _Answer:
        """One request; that there is nothing is an error."""
        answer = self._part(kind, body, expected)
        if answer is None:
            raise self.lose()
        return answer

    def _part(self, kind: int, body: bytes, expected: int) -> _Answer | None:
        """One request; None at the end of a folder."""
        (answer,) = self._ask([(kind, body)])
        if answer.kind != _STATUS:
            return self._checked(answer, expected)
        code = answer.number()
        if code == _END and kind == _READDIR:
            return None
        if code == _ABSENT:
            raise NotfallError(
                "no-such-file",
                "This is not in the copy.",
                "Go back to the folder above it.",
                status=404,
            )
        raise NotfallError(
            "file-unreadable",
            "The copy can't be read at this place.",
            "Try another copy of the server.",
            status=500,
        )

    def _checked(self, answer: _Answer, expected: int) -> _Answer:
        if answer.kind != expected:
            raise self.lose()
        return answer

    def _ask(self, requests: Sequence[tuple[int, bytes]]) -> list[_Answer]:
        """Answers in the order of the requests."""
        with self._lock:
            if self.broken:
                raise self.lose()
            self.used = time.monotonic()
            until = self.used + self._limit_s
            first = self._number + 1
            self._number += len(requests)
            self._send(
                *(
                    struct.pack(">BI", kind, first + at) + body
                    for at, (kind, body) in enumerate(requests)
                )
            )
            found: dict[int, _Answer] = {}
            while len(found) < len(requests):
                kind, body = self._receive(until)
                answer = _Answer(self, kind, body)
                at = answer.number() - first
                if at in found or not 0 <= at < len(requests):
                    raise self.lose()
                found[at] = answer
        return [found[at] for at in range(len(requests))]

    def _send(self, *packets: bytes) -> None:
        try:
            self._line.settimeout(self._limit_s)
            self._line.sendall(b"".join(struct.pack(">I", len(one)) + one for one in packets))
        except OSError:
            raise self.lose() from None

    def _receive(self, until: float) -> tuple[int, bytes]:
        (length,) = struct.unpack(">I", self._exactly(4, until))
        if not 0 < length <= PACKET_LIMIT:
            raise self.lose()
        packet = self._exactly(length, until)
        return packet[0], packet[1:]

    def _exactly(self, length: int, until: float) -> bytes:
        taken = bytearray()
        while len(taken) < length:
            try:
                self._line.settimeout(max(0.001, until - time.monotonic()))
                piece = self._line.recv(length - len(taken))
            except OSError:
                raise self.lose() from None
            if not piece:
                raise self.lose()
            taken += piece
        return bytes(taken)

    def lose(self) -> NotfallError:
        """Give the line up; returns the error to raise."""
        self.broken = True
        return lost()


def lost() -> NotfallError:
    """The appliance is gone, or answers what nobody understands."""
    return NotfallError(
        "files-lost",
        "The isolated machine that reads the copy no longer answers.",
        "Open the copy again.",
        retry=True,
        status=503,
    )


def _text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


class _Answer:
    """One packet, read from front to back; one that is too short breaks the line."""

    def __init__(self, client: SftpClient, kind: int, body: bytes) -> None:
        self.kind = kind
        self._client = client
        self._body = body
        self._at = 0

    def _take(self, form: str) -> tuple[int, ...]:
        try:
            values = struct.unpack_from(form, self._body, self._at)
        except struct.error:
            raise self._client.lose() from None
        self._at += struct.calcsize(form)
        return values

    def number(self) -> int:
        return self._take(">I")[0]

    def text(self) -> bytes:
        length = self.number()
        if length > len(self._body) - self._at:
            raise self._client.lose()
        self._at += length
        return self._body[self._at - length : self._at]

    def attributes(self) -> Attributes:
        told = self.number()
        size = self._take(">Q")[0] if told & 1 else 0
        owner, group = self._take(">II") if told & 2 else (0, 0)
        mode = self.number() if told & 4 else 0
        modified = self._take(">II")[1] if told & 8 else 0
        if told & 1 << 31:
            for _ in range(self.number()):
                self.text()
                self.text()
        kind = _KINDS.get(stat.S_IFMT(mode), Kind.OTHER)
        return Attributes(kind, size, modified, stat.S_IMODE(mode), owner, group)
