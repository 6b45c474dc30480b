"""Accepts connections on the one port and decides which way they take.

An agent that will send frames says so in the clear, in the first message of TLS (ALPN): its
connection goes to the :mod:`lane`, as long as there is room. All others, and one whose message
does not arrive in one piece, go the ordinary way to the web application.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

from notfallserver.wire.client import FRAMES_PROTOCOL

log = logging.getLogger(__name__)

HELLO_S = 30.0
"""A connection on which nothing comes in this time is closed."""
_HELLO = 4096
_MANY = 64
_PAUSE_S = 0.5
_MARK = bytes([len(FRAMES_PROTOCOL)]) + FRAMES_PROTOCOL.encode()


def wants_lane(hello: bytes) -> bool:
    """Whether a client's first bytes are TLS that asks for the lane's protocol."""
    return hello[:1] == b"\x16" and _MARK in hello


class Reception:
    """``admit`` takes a connection for the lane or says no; ``ordinary`` takes any other one."""

    def __init__(
        self,
        port: socket.socket,
        admit: Callable[[socket.socket], bool],
        ordinary: Callable[[socket.socket], Awaitable[object]],
    ) -> None:
        self._port = port
        self._admit = admit
        self._ordinary = ordinary
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Begin; within the event loop."""
        self._loop = asyncio.get_running_loop()
        self._port.setblocking(False)
        self._loop.add_reader(self._port.fileno(), self._accept)

    def close(self) -> None:
        """Take no more connections, and drop those that are not decided."""
        self._loop.remove_reader(self._port.fileno())
        for task in list(self._tasks):
            task.cancel()

    def _accept(self) -> None:
        for _ in range(_MANY):
            try:
                connection, _ = self._port.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:  # no descriptors left: what waits, waits a little longer
                log.error("no connection can be accepted: %s", error)
                self._loop.remove_reader(self._port.fileno())
                self._loop.call_later(_PAUSE_S, self.open)
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._loop.create_task(self._receive(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _receive(self, connection: socket.socket) -> None:
        try:
            hello = await asyncio.wait_for(self._peek(connection), HELLO_S)
            if not (wants_lane(hello) and self._admit(connection)):
                await self._ordinary(connection)
        except (OSError, asyncio.TimeoutError):  # cut, or a handshake that failed
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise

    async def _peek(self, connection: socket.socket) -> bytes:
        """What came first, without taking it."""
        arrived = self._loop.create_future()
        self._loop.add_reader(connection.fileno(), _settle, arrived)
        try:
            await arrived
        finally:
            self._loop.remove_reader(connection.fileno())
        return connection.recv(_HELLO, socket.MSG_PEEK)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
