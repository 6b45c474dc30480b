"""Who is at the other end: the client certificate of a connection, and what it allows.

TLS checks the certificate's chain; here the connection's certificate is made known to the app, and
:func:`agent_of` decides whether it stands. Clients without certificate are let in by TLS, because
people, targets and new agents have none.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import cast

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from fastapi import Request
from starlette.requests import HTTPConnection
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from notfallserver.server.house import House
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.frames import FRAME_LIMIT


@dataclass(frozen=True)
class Peer:
    """A client certificate: whose it is, and its serial number in hex."""

    primary: str
    serial: str


class PeerProtocol(HttpToolsProtocol):
    """Uvicorn's protocol that puts the connection's :class:`Peer` into ``request.state.peer``.

    An agent's frame is gathered here and handed over in one piece, because every hand-over of the
    usual 64 KiB passes all layers. Others can't make the server hold more than those 64 KiB.
    """

    _peer: Peer | None = None
    _gathered: list[bytes]
    _length = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._peer = _peer(transport.get_extra_info("ssl_object"))
        self._gathered = []
        self.app_state = {**self.app_state, "peer": self._peer}

    def shutdown(self) -> None:
        """The server ends: an idle connection is cut, because a client that isn't reading, as an
        agent between two polls, would not answer TLS's goodbye and hold the server up."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
        else:
            super().shutdown()

    def on_body(self, body: bytes) -> None:
        if self._peer is None or self._length + len(body) > FRAME_LIMIT:
            self._hand_over()
            super().on_body(body)
            return
        self._gathered.append(body)
        self._length += len(body)

    def on_message_complete(self) -> None:
        self._hand_over()
        super().on_message_complete()

    def _hand_over(self) -> None:
        if not self._gathered:
            return
        whole = b"".join(self._gathered)
        self._gathered, self._length = [], 0
        if self.cycle.response_complete:
            return
        if not self.cycle.body:
            self.cycle.body = whole  # type: ignore[assignment]  # bytes are passed on uncopied
            self.cycle.message_event.set()
        else:
            super().on_body(whole)


def _peer(connection: ssl.SSLObject | None) -> Peer | None:
    der = connection.getpeercert(binary_form=True) if connection else None
    return read_peer(der) if der else None


def read_peer(der: bytes) -> Peer | None:
    """Whom a certificate (already checked by TLS) names; None where it is no agent's."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (ValueError, x509.ExtensionNotFound):
        return None
    if ExtendedKeyUsageOID.CLIENT_AUTH not in uses or len(names) != 1:
        return None
    return Peer(str(names[0].value), f"{certificate.serial_number:x}")


def house_of(request: HTTPConnection) -> House:
    return cast(House, request.app.state.house)


def agent_of(request: Request) -> str:
    """Dependency: the UUID of the primary whose agent calls; others are refused."""
    peer: Peer | None = getattr(request.state, "peer", None)
    if peer is None:
        raise NotfallError(
            "no-certificate",
            "This is for agents, and the caller shows no agent's certificate.",
            "Enrol it: notfall primary invite NAME",
            status=401,
        )
    require_trust(house_of(request), peer)
    return peer.primary


def require_trust(house: House, peer: Peer) -> None:
    """Refuse a certificate that was revoked, or whose primary is gone."""
    if not house.catalogue.invites.is_trusted(peer.serial, peer.primary):
        raise NotfallError(
            "certificate-refused",
            "The agent's certificate is no longer accepted here.",
            "Invite the primary again: notfall primary invite NAME --again",
            status=403,
        )
