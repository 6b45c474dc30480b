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
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from notfallserver.server.house import House
from notfallserver.wire.errors import NotfallError


@dataclass(frozen=True)
class Peer:
    """A client certificate: whose it is, and its serial number in hex."""

    primary: str
    serial: str


class PeerProtocol(HttpToolsProtocol):
    """Uvicorn's protocol that puts the connection's :class:`Peer` into ``request.state.peer``."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "peer": _peer(transport.get_extra_info("ssl_object"))}


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


def house_of(request: Request) -> House:
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
    if not house_of(request).catalogue.invites.is_trusted(peer.serial, peer.primary):
        raise NotfallError(
            "certificate-refused",
            "The agent's certificate is no longer accepted here.",
            "Invite the primary again: notfall primary invite NAME --again",
            status=403,
        )
    return peer.primary
