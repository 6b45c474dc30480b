"""HTTP from a network namespace without leaving the process.

A socket belongs to the namespace of the thread that made it, so a short-lived thread enters the
namespace, makes the socket and ends; the socket is used from anywhere.
"""

from __future__ import annotations

import ctypes
import http.client
import os
import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def connect(namespace: str, address: str, port: int, timeout: float) -> socket.socket:
    """A TCP connection from ``namespace``; at most 3 s to establish."""

    def act() -> socket.socket:
        with open(f"/run/netns/{namespace}", "rb") as place:
            if _libc.setns(place.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"{os.strerror(ctypes.get_errno())}: {namespace}")
        made = socket.create_connection((address, port), timeout=min(3, timeout))
        made.settimeout(timeout)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    with ThreadPoolExecutor(max_workers=1) as once:
        return once.submit(act).result()


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
