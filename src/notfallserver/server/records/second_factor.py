"""The second factor: codes from a telephone (TOTP, RFC 6238), and codes on paper if that is lost.

A code is good once: the step of the last one that was used is kept, and none of that step or before
is taken. Secrets are in the catalogue as they are, because the server must compute codes from them;
codes on paper are kept as hashes, being random.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pyotp
from sqlalchemy import Connection, Row, delete, insert, select, update

from notfallserver.server.records.database import Database
from notfallserver.server.records.events import SessionsEnded
from notfallserver.server.records.journal import write_entry
from notfallserver.server.records.passwords import readable
from notfallserver.server.records.people import end_sessions
from notfallserver.server.records.tables import people, recovery_codes
from notfallserver.wire.errors import NotfallError

STEP_S = 30
AROUND = (0, -1, 1)
"""Steps that are tried: clocks differ, and typing takes time."""
CODES = 10


class SecondFactor:
    """Second factors of all people."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def has(self, name: str) -> bool:
        with self._database.reading() as connection:
            row = _person(connection, name)
        return row is not None and bool(row.totp_secret)

    def offer(self, name: str) -> str:
        """A secret to be put into a telephone; the same until it is confirmed."""
        with self._database.writing() as connection:
            row = _person(connection, name)
            if row is None or row.totp_secret:
                raise NotfallError(
                    "second-factor-on",
                    "There is a second factor already, or no such person.",
                    "Switch it off first.",
                    status=409,
                )
            if row.totp_offered:
                return str(row.totp_offered)
            secret = pyotp.random_base32()
            _write(connection, name, totp_offered=secret)
        return secret

    def switch_on(self, name: str, code: str, moment: float, keep: str = "") -> list[str]:
        """Confirm what was offered by a first code; returns the codes for paper, told only now.

        All other sessions end: they were opened without it. ``keep`` is the token of this one.
        """
        with self._database.writing() as connection:
            row = _person(connection, name)
            step = _step_of(row.totp_offered, code, moment) if row and row.totp_offered else None
            if row is None or step is None:
                raise wrong_code()
            _write(connection, name, totp_secret=row.totp_offered, totp_offered="", totp_step=step)
            end_sessions(connection, name, keep)
            write_entry(connection, None, "second-factor-on", name, details={"name": name})
            codes = _new_codes(connection, name)
        self._database.events.tell(SessionsEnded())
        return codes

    def switch_off(self, name: str, who: str, keep: str = "") -> None:
        """Without it from now on; the other sessions end, because a telephone may be stolen."""
        with self._database.writing() as connection:
            row = _person(connection, name)
            if row is None or not row.totp_secret:
                raise NotfallError(
                    "second-factor-none", f"'{name[:63]}' has no second factor.", status=409
                )
            _write(connection, name, totp_secret="", totp_offered="", totp_step=0)
            connection.execute(delete(recovery_codes).where(recovery_codes.c.name == name))
            end_sessions(connection, name, keep)
            write_entry(connection, None, "second-factor-off", who, details={"name": name})
        self._database.events.tell(SessionsEnded())

    def renew_codes(self, name: str) -> list[str]:
        """New codes for paper; the old ones are void."""
        with self._database.writing() as connection:
            row = _person(connection, name)
            if row is None or not row.totp_secret:
                raise NotfallError(
                    "second-factor-none", f"'{name[:63]}' has no second factor.", status=409
                )
            write_entry(connection, None, "recovery-codes-made", name, details={"name": name})
            return _new_codes(connection, name)

    def use(self, name: str, code: str, moment: float, really: bool = True) -> bool:
        """Whether the code, of either kind, is good now; it is used up then.

        ``really``: else nothing is used up and the answer is no, after the same work.
        """
        with self._database.writing() as connection:
            row = _person(connection, name)
            secret = row.totp_secret if row else ""
            step = _step_of(secret or pyotp.random_base32(), code, moment)
            code_hash = _hash(name, code)
            paper = connection.execute(
                select(recovery_codes.c.code_hash).where(
                    recovery_codes.c.code_hash == code_hash, recovery_codes.c.name == name
                )
            ).first()
            if not really or row is None or not secret:
                return False
            if paper:
                connection.execute(
                    delete(recovery_codes).where(recovery_codes.c.code_hash == code_hash)
                )
                write_entry(connection, None, "recovery-code-used", name, details={"name": name})
                return True
            if step is None or step <= row.totp_step:
                return False
            _write(connection, name, totp_step=step)
            return True


def wrong_code() -> NotfallError:
    return NotfallError(
        "wrong-code",
        "The code is not the right one.",
        "Type the one that the telephone shows now. Its clock must be right.",
    )


def address_of(secret: str, name: str, host: str) -> str:
    """What is in the picture that the telephone reads."""
    return pyotp.TOTP(secret).provisioning_uri(name=f"{name}@{host}", issuer_name="Notfallserver")


def _step_of(secret: str, code: str, moment: float) -> int | None:
    """The step around ``moment`` (seconds since 1970) whose code this is."""
    typed = "".join(code.split())
    now = int(moment // STEP_S)
    shown = pyotp.TOTP(secret, interval=STEP_S)
    found = [
        now + one
        for one in AROUND
        if hmac.compare_digest(shown.at((now + one) * STEP_S).encode(), typed.encode())
    ]
    return found[0] if found else None


def _new_codes(connection: Connection, name: str) -> list[str]:
    codes = [readable(3) for _ in range(CODES)]
    connection.execute(delete(recovery_codes).where(recovery_codes.c.name == name))
    rows = [{"code_hash": _hash(name, one), "name": name} for one in codes]
    connection.execute(insert(recovery_codes), rows)
    return codes


def _hash(name: str, code: str) -> str:
    """However it was typed: capitals, spaces and hyphens don't matter."""
    plain = "".join(one for one in code.casefold() if one.isalnum())
    return hashlib.sha256(f"{name}\n{plain}".encode()).hexdigest()


def _person(connection: Connection, name: str) -> Row[Any] | None:
    return connection.execute(select(people).where(people.c.name == name)).first()


def _write(connection: Connection, name: str, **values: str | int) -> None:
    connection.execute(update(people).where(people.c.name == name).values(**values))
