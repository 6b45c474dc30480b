r"""Enrolment on Windows: the package writes down server and invitation, the service uses them.

They are in the registry, ``HKLM\SOFTWARE\Notfallserver\Agent``, values ``Server`` and ``Token``. So
an installation neither waits for the network nor fails for it. The token is removed when it was
used; it is good for one machine, once. A second server is invited the same way: whoever writes its
server and token there has it enrolled by the service.

A token has two parts, ``TOKEN:FINGERPRINT``: the second is the SHA-256 of the server's CA, by which
the CA is known that is fetched from the server.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List

from notfallserver.agent import enrolment
from notfallserver.agent.enrolment import Invited
from notfallserver.agent.servers import Server
from notfallserver.wire.client import Client
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

KEY = r"SOFTWARE\Notfallserver\Agent"


@dataclass(frozen=True)
class Invitation:
    url: str
    token: str
    fingerprint: str


def read_invitation(server: str, token: str) -> Invitation:
    """From what a person gave the package."""
    plain, _, fingerprint = token.strip().rpartition(":")
    if not plain or not re.fullmatch("[0-9a-fA-F]{64}", fingerprint):
        raise NotfallError(
            "bad-invitation",
            "The invitation is not whole.",
            "Copy SERVER and TOKEN again from the emergency server's page.",
        )
    url = server.strip().rstrip("/")
    return Invitation(url if "://" in url else f"https://{url}", plain, fingerprint.lower())


def enrol(invitation: Invitation, directory: Path, facts: Callable[[List[str]], Machine]) -> Server:
    """Use the invitation (``enrolment.py``); the server that it is of, first or second.

    ``directory`` is there, and nobody but administrators can read in it.
    """
    ca_pem = _fetched_ca(invitation)
    return enrolment.enrol(directory, Invited(invitation.url, invitation.token, ca_pem), facts)


def _fetched_ca(invitation: Invitation) -> str:
    """The server's CA, known by its fingerprint; what was spoken before is trusted for nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client = Client(invitation.url, context)
    try:
        pem = client.send("GET", "/ca.pem", b"").decode("ascii", "replace")
    finally:
        client.close()
    try:
        found = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    except ValueError:
        found = ""
    if found != invitation.fingerprint:
        raise NotfallError(
            "wrong-server",
            f"{invitation.url} is not the emergency server that invited this machine.",
            "Check the address, and ask for a new invitation.",
        )
    return pem
