"""Invitations and certificates: how a primary becomes known, and what proves it afterwards.

An invitation's token is kept as hash only, is good for 24 hours and once. Using it, adding the
primary and noting its certificate are one transaction: a failure leaves the invitation usable and
nothing else behind.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, update

from notfallserver.server.records.database import Database, now
from notfallserver.server.records.events import PrimaryChanged
from notfallserver.server.records.journal import write_entry
from notfallserver.server.records.primaries import check_name, insert_primary
from notfallserver.server.records.tables import certificates, invites, primaries
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

LIFETIME = timedelta(hours=24)


@dataclass(frozen=True)
class Invite:
    """One invitation; ``token`` is known only now."""

    token: str
    name: str
    expires_at: datetime


@dataclass(frozen=True)
class Enrolled:
    """A primary that was just enrolled."""

    uuid: str
    name: str


class Invites:
    """Invitations of this server, and the certificates that came of them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def invite(self, name: str, who: str, again: bool = False) -> Invite:
        """Invite a new primary, or (``again``) a known one whose agent is to be installed anew."""
        check_name(name)
        invite = Invite(secrets.token_hex(16), name, now() + LIFETIME)
        with self._database.writing() as connection:
            known = connection.execute(
                select(primaries.c.uuid).where(primaries.c.name_key == name.lower())
            ).scalar()
            if known and not again:
                raise NotfallError(
                    "name-in-use",
                    f"There is already a primary '{name}'.",
                    "Choose another name; to install its agent anew invite it with --again.",
                    status=409,
                )
            if again and not known:
                raise NotfallError(
                    "no-such-primary",
                    f"There is no primary '{name}' to invite again.",
                    "Invite it without --again.",
                    status=404,
                )
            connection.execute(delete(invites).where(invites.c.expires_at < now() - LIFETIME))
            connection.execute(
                insert(invites).values(
                    token_hash=_hash(invite.token),
                    name=name,
                    primary=known or "",
                    expires_at=invite.expires_at,
                )
            )
            write_entry(connection, known, "invited", who, details={"name": name})
        return invite

    def enrol(
        self,
        token: str,
        machine: Machine,
        schedule_minutes: int,
        capture_minutes: int,
        issue: Callable[[str], str],
    ) -> Enrolled:
        """Use an invitation; ``issue`` makes the certificate for a UUID and returns its serial.

        A primary invited again keeps its UUID; the certificates it had are revoked.
        """
        with self._database.writing() as connection:
            name, known = _take(connection, token)
            primary = known or str(uuid.uuid4())
            if known:
                if not connection.execute(
                    select(primaries.c.uuid).where(primaries.c.uuid == known)
                ).first():
                    raise _refused("The primary it was made for has been removed.")
                _revoke(connection, primary)
            else:
                insert_primary(
                    connection,
                    primary,
                    name,
                    machine=machine,
                    schedule_minutes=schedule_minutes,
                    capture_minutes=capture_minutes,
                )
            serial = issue(primary)
            connection.execute(
                insert(certificates).values(serial=serial, primary=primary, issued_at=now())
            )
            write_entry(
                connection,
                primary,
                "enrolled",
                "agent",
                to_state="" if known else "new",
                details={"hostname": machine.hostname, "serial": serial},
            )
        self._database.events.tell(PrimaryChanged(primary))
        return Enrolled(primary, name)

    def is_trusted(self, serial: str, primary: str) -> bool:
        """Whether a certificate of our CA still stands: its primary is known, it isn't revoked.

        One that is not listed stands too: a lost catalogue must not lock the agents out.
        """
        with self._database.reading() as connection:
            known = connection.execute(select(primaries.c.uuid).where(primaries.c.uuid == primary))
            if known.first() is None:
                return False
            row = connection.execute(
                select(certificates.c.primary, certificates.c.revoked_at).where(
                    certificates.c.serial == serial
                )
            ).first()
        return row is None or (row.primary == primary and row.revoked_at is None)

    def revoke(self, primary: str, who: str) -> None:
        """No certificate of this primary is good any more."""
        with self._database.writing() as connection:
            _revoke(connection, primary)
            write_entry(connection, primary, "certificates-revoked", who)


def _take(connection: Connection, token: str) -> tuple[str, str]:
    """Mark an invitation as used; returns its name and the primary it is for (or empty)."""
    digest = _hash(token)
    row = connection.execute(select(invites).where(invites.c.token_hash == digest)).first()
    if row is None or not hmac.compare_digest(row.token_hash, digest):
        raise _refused("It is wrong.")
    if row.used_at is not None:
        raise _refused("It has been used already.")
    if row.expires_at < now():
        raise _refused("It has expired.")
    connection.execute(update(invites).where(invites.c.token_hash == digest).values(used_at=now()))
    return row.name, row.primary


def _revoke(connection: Connection, primary: str) -> None:
    connection.execute(
        update(certificates)
        .where(certificates.c.primary == primary, certificates.c.revoked_at.is_(None))
        .values(revoked_at=now())
    )


def _refused(why: str) -> NotfallError:
    return NotfallError(
        "invite-refused",
        f"The invitation is not accepted. {why}",
        "Make a new one on the emergency server: notfall primary invite NAME",
        status=403,
    )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
