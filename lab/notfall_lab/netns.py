"""HTTP from a network namespace without leaving the process: only the socket is made there."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Mapping

from notfallserver.server.host.namespace import in_namespace


def connect(namespace: str, address: str, port: int, timeout: float) -> socket.socket:
    """A TCP connection from ``namespace``; at most 3 s to establish."""

    def act() -> socket.socket:
        made = socket.create_connection((address, port), timeout=min(3, timeout))
        made.settimeout(timeout)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    with open(f"/run/netns/{namespace}", "rb") as place:
        return in_namespace(place.fileno(), act)


class Connection(http.client.HTTPConnection):
    """An HTTP connection whose socket is in ``namespace``; with ``tls`` it is HTTPS."""

    def __init__(
        self,
        namespace: str,
        address: str,
        port: int,
        timeout: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(address, port, timeout=timeout)
        self._place = (namespace, address, port, timeout)
        self._tls = tls

    def connect(self) -> None:
        self.sock = connect(*self._place)
        if self._tls is not None:
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self.host)


def get(
    namespace: str,
    address: str,
    port: int,
    path: str,
    timeout: float = 10,
    tls: ssl.SSLContext | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Status and body of one GET."""
    connection = Connection(namespace, address, port, timeout, tls)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
