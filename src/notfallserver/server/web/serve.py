"""Runs the app on its port until the process is told to end (SIGTERM, SIGINT), then returns."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI

from notfallserver.server.house import House
from notfallserver.server.web.peer import PeerProtocol
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

GRACE_S = 6
"""Requests that are under way get so long to end; a poll waits at most 5 s."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve(app: FastAPI, house: House, started: Callable[[], None] | None = None) -> None:
    """Serve until a signal; ``started`` is called when the port answers."""
    settings, authority = house.settings, house.authority
    config = uvicorn.Config(
        app,
        http=PeerProtocol,
        loop="uvloop",
        ws="none",
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
    port = open_port(settings.listen_host, settings.listen_port)
    try:
        server = _Server(config, started)
        app.state.stopping = lambda: server.should_exit
        server.run(sockets=[port])
    finally:
        port.close()


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

    def __init__(self, config: uvicorn.Config, started: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._tell:
            self._tell()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Requests end in order; a connection still open then is cut, or it would hold the loop."""
        await super().shutdown(sockets)
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
