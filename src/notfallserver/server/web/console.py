"""The line between a browser and a stand-in's screen: bytes of VNC's protocol, both ways.

Each way waits for its reader, so little is held here. Whether the person may still do this is
looked at again every few seconds. The codes by which a line is closed are ours (RFC 6455 leaves
4000 and up to applications); the page has words for them.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from socket import socket

from fastapi import WebSocket, WebSocketDisconnect

MOST = 4
"""So many look at one stand-in at the same time."""
PIECE = 64 << 10
LOOK_S = 2.0
STUCK_S = 20.0
"""A reader that takes nothing for so long is given up."""
SAME_VISIT_S = 600.0


class End(IntEnum):
    """Why a line ends; by these codes the page knows."""

    GONE = 1000
    """The browser ended it."""
    TROUBLE = 1011
    OFF = 4001
    """The stand-in is off."""
    FULL = 4002
    NO_LONGER = 4003
    """Logged out, or the role was taken away."""


class Consoles:
    """The lines that are open; used in the event loop only."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()
        self._visits: dict[tuple[str, str], float] = {}

    @contextmanager
    def room(self, primary: str) -> Iterator[bool]:
        """Whether one more line may be open; it counts as long as the block lasts."""
        if self._open[primary] >= MOST:
            yield False
            return
        self._open[primary] += 1
        try:
            yield True
        finally:
            self._open[primary] -= 1

    def visits(self, who: str, primary: str) -> bool:
        """Whether this is another visit, and not a line that comes again after it was cut."""
        moment = time.monotonic()
        last = self._visits.get((who, primary))
        self._visits = {
            key: at for key, at in self._visits.items() if moment - at < SAME_VISIT_S
        } | {(who, primary): moment}
        return last is None or moment - last >= SAME_VISIT_S


async def carry(line: WebSocket, guest: socket, may: Callable[[], Awaitable[bool]]) -> End:
    """Carry until one side ends or the person may no more; closes ``guest``, not ``line``."""
    guest.setblocking(False)
    ways = [
        asyncio.create_task(way)
        for way in (_from_browser(line, guest), _to_browser(line, guest), _watch(may))
    ]
    try:
        ended, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        return min(one.result() for one in ended)
    finally:
        for one in ways:
            one.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        guest.close()


async def _from_browser(line: WebSocket, guest: socket) -> End:
    loop = asyncio.get_running_loop()
    while True:
        message = await line.receive()
        if message["type"] == "websocket.disconnect":
            return End.GONE
        if (data := message.get("bytes")) is None:
            return End.TROUBLE  # text is not of this protocol
        try:
            async with asyncio.timeout(STUCK_S):  # wait_for loses a cancellation now and then
                await loop.sock_sendall(guest, data)
        except TimeoutError:
            return End.TROUBLE
        except OSError:
            return End.OFF


async def _to_browser(line: WebSocket, guest: socket) -> End:
    loop = asyncio.get_running_loop()
    while True:
        try:
            data = await loop.sock_recv(guest, PIECE)
        except OSError:
            data = b""
        if not data:
            return End.OFF
        try:
            async with asyncio.timeout(STUCK_S):
                await line.send_bytes(data)
        except (TimeoutError, RuntimeError, WebSocketDisconnect):  # it closed a moment ago
            return End.GONE


async def _watch(may: Callable[[], Awaitable[bool]]) -> End:
    while await may():
        await asyncio.sleep(LOOK_S)
    return End.NO_LONGER
