"""Sends what comes piece by piece from an appliance that may be slow, dead or hostile.

Such work is done by the open version's own few threads, so that it holds up nothing else. A
transfer that fails in its middle is cut off: the other side must see that it is not whole. Nothing
that is sent is ever shown by a browser as a page of ours.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from notfallserver.server.cycle.browse.sftp import lost
from notfallserver.server.web.words.paths import attachment
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

MOST_AT_ONCE = 8
HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
_under_way = threading.BoundedSemaphore(MOST_AT_ONCE)

T = TypeVar("T")


async def apart(threads: Executor, work: Callable[..., T], *given: object) -> T:
    """Do ``work`` in one of ``threads``; those of a version that was closed meanwhile refuse."""
    try:
        made = threads.submit(partial(work, *given))
    except RuntimeError:
        raise lost() from None
    try:
        return await asyncio.wrap_future(made)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise lost() from None


@dataclass(frozen=True)
class Part:
    """The bytes that are asked for: ``length`` from ``start``, of ``size``."""

    start: int
    length: int
    size: int
    partial: bool = False

    def headers(self) -> dict[str, str]:
        told = {"Content-Length": str(self.length), "Accept-Ranges": "bytes"}
        if self.partial:
            last = self.start + self.length - 1
            told["Content-Range"] = f"bytes {self.start}-{last}/{self.size}"
        return told


def asked_part(asked: str, size: int) -> Part:
    """By the header ``Range``; several parts at once are answered with the whole, as is allowed."""
    found = _RANGE.fullmatch(asked.strip())
    if not found or found.groups() == ("", ""):
        return Part(0, size, size)
    first, last = found.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
    if start >= size or end <= start:
        raise NotfallError(
            "no-such-part", f"The file has only {size} bytes.", "Begin anew.", status=416
        )
    return Part(start, end - start, size, True)


class Pieces:
    """What a generator makes, taken by one thread at a time; it counts as a transfer under way."""

    def __init__(self, made: Generator[bytes, None, None]) -> None:
        if not _under_way.acquire(blocking=False):
            raise NotfallError(
                "too-many-transfers",
                f"{MOST_AT_ONCE} files are being copied out already.",
                "Wait until one of them is done.",
                retry=True,
                status=503,
            )
        self._made = made
        self._lock = threading.Lock()
        self._closed = False

    def take(self) -> bytes:
        """The next piece; empty at the end."""
        with self._lock:
            return b"" if self._closed else next((one for one in self._made if one), b"")

    def put_away(self) -> None:
        """Let go of the file, without waiting: the appliance may be asked just now, or be dead."""
        threading.Thread(target=self._close, daemon=True).start()

    def _close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                self._made.close()
            except NotfallError:
                pass  # nobody is there any more to close it
            finally:
                _under_way.release()


class Transfer(StreamingResponse):
    """Pieces as a file to be saved."""

    def __init__(
        self,
        pieces: Pieces,
        threads: Executor,
        first: bytes,
        name: str,
        status: int,
        headers: Mapping[str, str],
    ) -> None:
        self._pieces = pieces
        self._threads = threads
        self._first = first
        super().__init__(
            self._all(),
            status,
            {**HEADERS, "Content-Disposition": attachment(name), **headers},
            "application/octet-stream",
        )

    async def _all(self) -> AsyncIterator[bytes]:
        piece = self._first
        while piece:
            yield piece
            piece = await apart(self._threads, self._pieces.take)

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except NotfallError as error:
            log.warning("a transfer broke off: %s", error)  # its end is not sent: it is cut off

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._pieces.put_away()


async def begin_transfer(
    made: Generator[bytes, None, None],
    threads: Executor,
    name: str,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Transfer:
    """What fails at once is told as an error: nothing was sent before the first piece is there."""
    pieces = Pieces(made)
    try:
        first = await apart(threads, pieces.take)
    except BaseException:
        pieces.put_away()
        raise
    return Transfer(pieces, threads, first, name, status, headers or {})
