"""The lane for an agent's frames: a thread for each connection, past the event loop.

The bulk of a replication comes here. On the event loop each byte is copied half a dozen times and
decrypted by one thread for all agents; here TLS reads into the connection's own buffer, and all
processors take part. Everything else is as on the ordinary way: the same port (:mod:`reception`
tells the connections apart), certificate, paths, answers and errors. Only frames are taken;
whoever sends anything else, or shows no certificate, is cut off. An agent may take the ordinary
way at any time.
"""

from __future__ import annotations

import http.client
import io
import json
import logging
import mmap
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

from notfallserver.server.web.peer import Peer, read_peer
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.frames import FRAME_LIMIT, HEADER, contents_start

log = logging.getLogger(__name__)

MOST = 256
"""Connections at a time; further ones take the ordinary way."""
SILENCE_S = 75
"""A connection on which nothing comes is cut, as on the ordinary way."""
TRUSTED_S = 1.0
"""So long a peer is not checked anew: the check takes as long as storing a dozen blocks."""
_LINE = re.compile(rb"POST /agent/v1/runs/([0-9a-zA-Z]{1,64})/([a-z]{1,16}) HTTP/1\.1\r?\n")
_LINE_LIMIT = 512

Take = Callable[[str, str, memoryview], bytes]
"""What takes a frame: primary, run, frame; its answer's body."""


@dataclass(frozen=True)
class Lane:
    """``take`` by the last part of the path; ``check`` refuses a peer that is not trusted."""

    context: ssl.SSLContext
    take: dict[str, Take]
    check: Callable[[Peer], None]


class _Cut(Exception):
    """The other side is gone, or sends what nobody can answer."""


class Lanes:
    """All connections. Thread-safe."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = False

    def admit(self, connection: socket.socket) -> bool:
        """Serve a new connection, before TLS began; False if there is no room."""
        with self._lock:
            if self._closed or len(self._open) >= MOST:
                return False
            self._open.add(connection)
        connection.settimeout(SILENCE_S)
        threading.Thread(target=self._serve, args=(connection,), name="lane", daemon=True).start()
        return True

    def _serve(self, connection: socket.socket) -> None:
        try:
            with self._lane.context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            ) as secure:
                self._swap(connection, secure)
                secure.do_handshake()
                _Connection(secure, self._lane).serve()
        except (OSError, _Cut):
            pass  # the agent tries again
        except Exception:
            log.exception("a connection of the lane ended")
        finally:
            self._swap(connection, None)
            connection.close()

    def _swap(self, plain: socket.socket, secure: socket.socket | None) -> None:
        """The wrapped socket takes the place of the plain one; None: neither is open."""
        with self._lock:
            self._open = {one for one in self._open if one is not plain}
            if secure is not None:
                self._open.add(secure)
                return
            self._open = {one for one in self._open if one.fileno() >= 0}

    def close(self) -> None:
        """Cut all connections."""
        with self._lock:
            self._closed = True
            for one in self._open:
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


class _Connection:
    """One agent's connection after the handshake."""

    def __init__(self, secure: ssl.SSLSocket, lane: Lane) -> None:
        self._secure = secure
        self._lane = lane
        self._stream = cast(io.BufferedReader, secure.makefile("rb", 1 << 16))
        self._buffer = mmap.mmap(-1, mmap.PAGESIZE + FRAME_LIMIT)
        """Address space only: memory is taken by the first frame that needs it."""
        self._last = False  # this answer is the last one
        self._trusted_until = 0.0
        der = secure.getpeercert(binary_form=True)
        self._peer = read_peer(der) if der else None

    def serve(self) -> None:
        with self._stream:
            while line := self._stream.readline(_LINE_LIMIT):
                try:
                    body, status = self._answer(line), HTTPStatus.OK
                except NotfallError as error:
                    if error.status >= 500:
                        log.error("frame of %s: %s", self._peer, error)
                    body, status = json.dumps(error.to_json()).encode(), HTTPStatus(error.status)
                self._tell(status if body else HTTPStatus.NO_CONTENT, body)
                if self._last:
                    return

    def _answer(self, line: bytes) -> bytes:
        found = _LINE.fullmatch(line)
        take = self._lane.take.get(found[2].decode()) if found else None
        if found is None or take is None or self._peer is None:
            raise _Cut
        length = self._read_headers()
        frame = self._read_frame(length)
        self._check(self._peer)
        try:
            return take(self._peer.primary, found[1].decode(), frame)
        except NotfallError:
            raise
        except Exception as error:
            log.exception("taking a frame failed")
            raise NotfallError(
                "internal",
                "An unexpected failure on taking a frame.",
                "See the server's log.",
                status=500,
            ) from error

    def _check(self, peer: Peer) -> None:
        now = time.monotonic()
        if now >= self._trusted_until:
            self._lane.check(peer)
            self._trusted_until = now + TRUSTED_S

    def _read_headers(self) -> int:
        """The length of the body, which must be told in the plain way."""
        try:
            headers = http.client.parse_headers(self._stream)
        except http.client.HTTPException:
            raise _Cut from None
        told = headers.get("Content-Length", "")
        if "Transfer-Encoding" in headers or not told.isdecimal() or len(told) > 9:
            raise _Cut
        if int(told) > FRAME_LIMIT:
            self._last = True
            self._stream.read(min(int(told), 2 * FRAME_LIMIT))  # or the answer would not be heard
            raise NotfallError("too-long", "The message is too long.", status=413)
        return int(told)

    def _read_frame(self, length: int) -> memoryview:
        """Its contents begin at a page, so that they can be written past the page cache."""
        lead = self._stream.read(min(length, HEADER.size))
        start = -contents_start(lead) % mmap.PAGESIZE if len(lead) == HEADER.size else 0
        frame = memoryview(self._buffer)[start : start + length]
        done = len(lead)
        frame[:done] = lead
        if done < length:  # what was read ahead of need; all that follows is this frame's
            done += self._stream.readinto1(frame[done:])
        while done < length:
            got = self._secure.read(length - done, frame[done:])
            if not got:
                raise _Cut
            done += int(got)
        return frame

    def _tell(self, status: HTTPStatus, body: bytes) -> None:
        answer = io.BytesIO()
        answer.write(f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode())
        if body:
            kind = "octet-stream" if status is HTTPStatus.OK else "json"
            answer.write(f"Content-Type: application/{kind}\r\n".encode())
            answer.write(f"Content-Length: {len(body)}\r\n".encode())
        answer.write(b"\r\n")
        answer.write(body)
        self._secure.sendall(answer.getvalue())
