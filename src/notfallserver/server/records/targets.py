"""Targets: machines booted from the rescue medium that wait to be recovered to.

Of a target's secret and of its pairing code only hashes are kept. Anybody on the network can
register, so at most :data:`MOST` waiting targets are kept and the ones longest unheard of give way.
"""

from __future__ import annotations

import hashlib
import secrets
from base64 import b32encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from notfallserver.server.records.database import Database, now
from notfallserver.server.records.events import TargetChanged
from notfallserver.server.records.tables import targets
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine, read_machine

MOST = 64
CODE_LENGTH = 8


@dataclass(frozen=True)
class Target:
    """One target; ``state`` is free or paired, ``recovery`` the job it is paired with or empty."""

    id: str
    machine: Machine
    first_seen: datetime
    seen: datetime
    state: str
    recovery: str
    report: dict[str, Any]


def pairing_code(secret: str) -> str:
    """The code that a target with this secret shows on its console."""
    return b32encode(hashlib.sha256(b"code" + secret.encode()).digest()).decode()[:CODE_LENGTH]


class Targets:
    """All targets that registered here."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, secret: str, machine: Machine, code: str) -> Target:
        """A target tells of itself; again with the same secret it is the same target."""
        if len(secret) != 64 or set(secret) - set("0123456789abcdef"):
            raise NotfallError(
                "bad-secret", "The target's secret is not 64 hex digits.", status=401
            )
        if not secrets.compare_digest(code.encode(), pairing_code(secret).encode()):
            raise NotfallError("bad-code", "The pairing code doesn't belong to the secret.")
        key = _hash(secret)
        with self._database.writing() as connection:
            known = connection.execute(select(targets).where(targets.c.secret_hash == key)).first()
            if known is not None:
                target: str = known.id
                connection.execute(
                    update(targets)
                    .where(targets.c.id == target)
                    .values(machine=machine.to_json(), seen=now())
                )
            else:
                free = select(targets.c.id).where(targets.c.state == "free")
                stale = free.order_by(targets.c.seen.desc()).offset(MOST - 1)
                connection.execute(delete(targets).where(targets.c.id.in_(stale.scalar_subquery())))
                target = secrets.token_hex(8)
                connection.execute(
                    insert(targets).values(
                        id=target,
                        secret_hash=key,
                        code_hash=_hash(code),
                        machine=machine.to_json(),
                        first_seen=now(),
                        seen=now(),
                        state="free",
                        recovery="",
                        report={},
                    )
                )
        self._database.events.tell(TargetChanged(target))
        return self.find(target)

    def find(self, target: str) -> Target:
        return self._one(targets.c.id == target, f"There is no target '{target[:80]}'.")

    def by_secret(self, secret: str) -> Target:
        """The target that shows this secret; 401 when nobody does."""
        return self._one(
            targets.c.secret_hash == _hash(secret), "This target is not registered.", status=401
        )

    def by_code(self, code: str) -> Target:
        """The one target that shows this code; written in whatever case, with spaces or dashes."""
        plain = code.upper().replace("-", "").replace(" ", "")
        return self._one(
            targets.c.code_hash == _hash(plain), f"No target shows the code '{code[:80]}'."
        )

    def all(self) -> list[Target]:
        with self._database.reading() as connection:
            rows = connection.execute(select(targets).order_by(targets.c.seen.desc()))
            return [_target(row) for row in rows]

    def saw(self, target: str, report: Mapping[str, Any] | None = None) -> None:
        """A sign of life, with what it reports."""
        values: dict[str, Any] = {"seen": now()}
        if report is not None:
            values["report"] = dict(report)
        self._change(target, values)

    def pair(self, target: str, recovery: str) -> None:
        """Give it to a recovery; refused while it belongs to another."""
        with self._database.writing() as connection:
            paired = connection.execute(
                update(targets)
                .where(targets.c.id == target, targets.c.recovery.in_(("", recovery)))
                .values(state="paired", recovery=recovery)
            )
            if paired.rowcount != 1:
                raise NotfallError(
                    "target-in-use",
                    "The target is gone or belongs to another recovery.",
                    "See 'notfall targets'; cancel the other recovery first.",
                    status=409,
                )
        self._database.events.tell(TargetChanged(target))

    def release(self, target: str) -> None:
        self._change(target, {"state": "free", "recovery": ""})

    def forget(self, target: str) -> None:
        with self._database.writing() as connection:
            connection.execute(delete(targets).where(targets.c.id == target))
        self._database.events.tell(TargetChanged(target))

    def _one(self, condition: Any, missing: str, status: int = 404) -> Target:
        with self._database.reading() as connection:
            rows = connection.execute(select(targets).where(condition)).all()
        if not rows:
            raise NotfallError(
                "no-such-target",
                missing,
                "Boot it from the rescue medium and read the code from its screen.",
                status=status,
            )
        if len(rows) > 1:
            raise NotfallError(
                "ambiguous-code",
                "Several machines show this code; one of them may not be yours.",
                "Restart your target: it shows a new code.",
                status=409,
            )
        return _target(rows[0])

    def _change(self, target: str, values: Mapping[str, Any]) -> None:
        with self._database.writing() as connection:
            connection.execute(update(targets).where(targets.c.id == target).values(**values))
        self._database.events.tell(TargetChanged(target))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _target(row: Row[Any]) -> Target:
    return Target(
        id=row.id,
        machine=read_machine(row.machine),
        first_seen=row.first_seen,
        seen=row.seen,
        state=row.state,
        recovery=row.recovery,
        report=row.report,
    )
