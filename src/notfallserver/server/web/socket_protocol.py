"""Uvicorn's protocol for WebSockets, which ends at once where the other side does not listen.

A connection becomes one when its request asks for it; :mod:`guard` refuses what is not ours.
"""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

MESSAGE_LIMIT = 64 << 10
"""Bytes of a message from a browser; noVNC sends keys and movements, 10 KiB at most."""
PING_S = 10.0
"""So often a browser is pinged, and so long it may take to answer."""
_GOODBYE_S = 1.0
_UNREAD = 1 << 20


class SocketProtocol(WebSocketsSansIOProtocol):
    """Reading pauses after each message until the app took it; sending waits for the line."""

    def shutdown(self) -> None:
        """The server ends: say so, and don't wait for a browser that isn't reading."""
        super().shutdown()
        self.loop.call_later(_GOODBYE_S, self.transport.abort)

    def handle_ping(self) -> None:
        """Answers to pings don't wait for the line: who sends them and reads nothing is cut."""
        if self.transport.get_write_buffer_size() > _UNREAD:
            self.transport.abort()
            return
        super().handle_ping()
