"""Runs the app on its port until the process is told to end (SIGTERM, SIGINT), then returns."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping

import uvicorn
from fastapi import FastAPI

from notfallserver.server.house import House
from notfallserver.server.web.lane import Lane, Lanes, Take
from notfallserver.server.web.peer import Peer, PeerProtocol, require_trust
from notfallserver.server.web.reception import Reception
from notfallserver.server.web.socket_protocol import MESSAGE_LIMIT, PING_S, SocketProtocol
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

GRACE_S = 6
"""Requests that are under way get so long to end; a poll waits at most 5 s."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve(
    app: FastAPI,
    house: House,
    frames: Mapping[str, Take],
    started: Callable[[], None] | None = None,
) -> None:
    """Serve until a signal; ``started`` is called when the port answers.

    ``frames`` is what takes agents' frames on the lane.
    """
    authority = house.authority
    config = uvicorn.Config(
        app,
        http=PeerProtocol,
        loop="uvloop",
        ws=SocketProtocol,
        ws_max_size=MESSAGE_LIMIT,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        ws_per_message_deflate=False,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_S,
        ssl_certfile=str(authority.server_certificate),
        ssl_keyfile=str(authority.server_key),
        ssl_ca_certs=str(authority.ca_file),
        ssl_cert_reqs=ssl.CERT_OPTIONAL,
    )
    server = _Server(config, started, house, frames)
    app.state.stopping = lambda: server.should_exit
    server.run()


def open_port(host: str, port: int) -> socket.socket:
    """Open the listening socket; ``::`` means every address of both kinds."""
    both = host == "::" and socket.has_dualstack_ipv6()
    if host == "::" and not both:
        host = "0.0.0.0"  # noqa: S104
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512, dualstack_ipv6=both)
    except OSError as error:
        raise NotfallError(
            "port-not-free",
            f"Port {port} on {host} cannot be opened: {error.strerror or error}.",
            "Is another server running? Otherwise change listen_host or listen_port in the "
            "settings.",
        ) from None


class _Server(uvicorn.Server):
    """Returns after a signal instead of letting it end the process: there is more to put away."""

    def __init__(
        self,
        config: uvicorn.Config,
        started: Callable[[], None] | None,
        house: House,
        frames: Mapping[str, Take],
    ) -> None:
        super().__init__(config)
        self._tell = started
        self._house = house
        self._frames = dict(frames)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Signals are taken before the port opens: who sees it answer may end us at once."""
        settings = self._house.settings
        with self.capture_signals():
            self._port = open_port(settings.listen_host, settings.listen_port)
            with self._port:
                await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])  # the port is the reception's
        if not self.started:
            return
        context = self.config.ssl
        if context is None:
            raise RuntimeError("there is no TLS")

        def check(peer: Peer) -> None:
            require_trust(self._house, peer)

        self._lanes = Lanes(Lane(context, self._frames, check))
        self._reception = Reception(self._port, self._lanes.admit, self._to_app)
        self._reception.open()
        if self._tell:
            self._tell()

    async def _to_app(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()

        def protocol() -> PeerProtocol:
            return PeerProtocol(self.config, self.server_state, self.lifespan.state, loop)

        await loop.connect_accepted_socket(protocol, connection, ssl=self.config.ssl)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Requests end in order; a connection still open then is cut, or it would hold the loop."""
        self._reception.close()
        await super().shutdown([])
        self._lanes.close()
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(0.1)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {one: signal.signal(one, self.handle_exit) for one in SIGNALS}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)
