"""The HTTPS client of agents and targets: the server's own CA is pinned, nothing else is trusted.

One :class:`Client` belongs to one thread and keeps one connection. A connection that broke is
opened anew and the request sent once more, because every request of the protocol may be repeated
without harm. An answer other than 2xx is raised as the :class:`NotfallError` in its body; a server
that cannot be reached as code ``server-unreachable`` with ``retry`` set.

A server may have further addresses: a connection is opened to the first at which it is found.
"""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union
from urllib.parse import urlsplit

from notfallserver.wire.blocks import Buffer
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.frames import FRAME_LIMIT

Body = List[Buffer]
Throttle = Callable[[Body], Iterable[Buffer]]
"""Gives the parts of a body piece by piece, each when it may be sent."""

TURN_S = 10.0
"""Where there are further addresses, so long one of them may take to answer at all."""
JSON_LIMIT = 16 << 20
"""Longest JSON answer that is read, in bytes."""


def in_pieces(body: Body, most: int = 1 << 18) -> Iterable[Buffer]:
    """The same in pieces of at most ``most`` bytes.

    The timeout holds for each piece: a frame of 4 MiB in one piece would need a line of half a
    megabit a second and more to arrive within it.
    """
    for part in body:
        for start in range(0, len(part), most):
            yield memoryview(part)[start : start + most]


FRAMES_PROTOCOL = "notfall-frames/1"
"""Named (ALPN) by a client that will send frames; a server that knows it may serve it faster."""


def tls_context(
    ca_pem: str, cert_file: str = "", key_file: str = "", *, frames: bool = False
) -> ssl.SSLContext:
    """TLS that trusts only ``ca_pem`` (PEM text) and shows a client certificate if given.

    The server is known by its CA, not by its name: it is reached by whatever address it has.
    ``frames`` says that an agent's frames will be sent on it, and nothing else.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=ca_pem)
    if cert_file:
        context.load_cert_chain(cert_file, key_file)
    if frames:
        context.set_alpn_protocols([FRAMES_PROTOCOL])
    return context


class Client:
    """One connection to one server; ``url`` is ``https://host:port``.

    ``urls`` gives all addresses it may have now, the best first, each time that a connection is
    opened; ``found`` is told at which of them it is, when that was not the first.
    """

    def __init__(
        self,
        url: str,
        context: ssl.SSLContext,
        bearer: str = "",
        timeout: float = 60,
        throttle: Optional[Throttle] = None,
        urls: Optional[Callable[[], Sequence[str]]] = None,
        found: Optional[Callable[[str], None]] = None,
    ) -> None:
        _place_of(url)  # a wrong one is told at once
        self._urls = urls or (lambda: (url,))
        self._found = found
        self._context = context
        self._bearer = bearer
        self._timeout = timeout
        self._throttle: Throttle = throttle or in_pieces
        self._connection: Optional[http.client.HTTPSConnection] = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def present_url(self) -> str:
        """Where the server is now, by number; :class:`NotfallError` when it is nowhere."""
        try:
            self._connection = self._connection or self._connect()
            host, port = self._connection.sock.getpeername()[:2]
        except OSError as error:
            self.close()
            raise self._unreachable(error) from None
        return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"

    def call(
        self, method: str, path: str, body: Optional[Mapping[str, Any]] = None, timeout: float = 0
    ) -> Dict[str, Any]:
        """Send JSON (or nothing), read a JSON object; ``timeout`` in seconds, 0 = the default."""
        raw = b"" if body is None else json.dumps(body).encode()
        answer = self._exchange(method, path, [raw], "application/json", timeout, JSON_LIMIT)
        if not answer:
            return {}
        try:
            read = json.loads(answer)
        except ValueError:
            read = None
        if not isinstance(read, dict):
            raise NotfallError(
                "bad-answer", "The server's answer is not understood.", "Update both sides."
            )
        return read

    def send(
        self, method: str, path: str, frame: Union[bytes, List[Buffer]], limit: int = FRAME_LIMIT
    ) -> bytes:
        """Send a binary frame (or its parts), read a binary answer of at most ``limit`` bytes."""
        parts: Body = [frame] if isinstance(frame, bytes) else frame
        return self._exchange(method, path, parts, "application/octet-stream", 0, limit)

    def _exchange(
        self, method: str, path: str, body: Body, kind: str, timeout: float, limit: int
    ) -> bytes:
        try:
            status, answer = self._once(method, path, body, kind, timeout, limit)
        except (OSError, http.client.HTTPException):
            self.close()
            try:
                status, answer = self._once(method, path, body, kind, timeout, limit)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                raise self._unreachable(error) from None
        if 200 <= status < 300:
            return answer
        try:
            told = json.loads(answer)
        except ValueError:
            told = {}
        raise NotfallError.from_json(told if isinstance(told, dict) else {}, status)

    def _once(
        self, method: str, path: str, body: Body, kind: str, timeout: float, limit: int
    ) -> Tuple[int, bytes]:
        # A server that said "Connection: close" has left a connection without socket.
        if self._connection is None or self._connection.sock is None:
            self._connection = self._connect()
        self._connection.sock.settimeout(timeout or self._timeout)
        length = sum(len(part) for part in body)
        headers = {"Content-Type": kind, "Content-Length": str(length)}
        if self._bearer:
            headers["Authorization"] = f"Bearer {self._bearer}"
        self._connection.request(method, path, self._throttle(body), headers)
        response = self._connection.getresponse()
        answer = response.read(limit + 1)
        if len(answer) > limit:
            self.close()
            raise NotfallError(
                "bad-answer", "The server's answer is too long.", "Update both sides."
            )
        return response.status, answer

    def _connect(self) -> http.client.HTTPSConnection:
        """To the first address at which it is found."""
        urls = self._urls()
        timeout = self._timeout if len(urls) == 1 else min(self._timeout, TURN_S)
        for number, url in enumerate(urls):
            host, port = _place_of(url)
            connection = http.client.HTTPSConnection(
                host, port, timeout=timeout, context=self._context
            )
            try:
                connection.connect()
            except OSError:
                if number == len(urls) - 1:
                    raise
                continue
            if number and self._found is not None:
                self._found(url)
            return connection
        raise AssertionError("a server has an address")

    def _unreachable(self, error: Exception) -> NotfallError:
        asked = ", ".join("{}:{}".format(*_place_of(url)) for url in self._urls())
        return NotfallError(
            "server-unreachable",
            f"The emergency server at {asked} cannot be reached ({error}).",
            "Check the network and that the server runs.",
            retry=True,
            status=503,
        )


def _place_of(url: str) -> Tuple[str, int]:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise NotfallError(
            "bad-url", f"'{url}' is no server address.", "Write it as https://HOST:PORT."
        )
    return parts.hostname, parts.port or 443
