"""The tables, and the two column types they need. Migrations make them; this describes them.

Times are UTC, kept as ISO text with microseconds, so that they sort as text. Documents are JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
)

from notfallserver.wire.facts import Machine, read_machine


class UtcTime(TypeDecorator[datetime]):
    """A moment; only aware times are accepted, what is read is UTC."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without zone")
        return value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


class MachineFacts(TypeDecorator[Machine]):
    """A machine as JSON. Facts hardly change and are read with every look at the primaries, so the
    same text is understood once."""

    impl = JSON
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Machine | None], str | None]:
        return lambda value: None if value is None else json.dumps(value.to_json())

    def result_processor(
        self, dialect: Dialect, coltype: object
    ) -> Callable[[str | None], Machine | None]:
        return lambda text: _machine(text) if text else None


@lru_cache(maxsize=1024)
def _machine(text: str) -> Machine:
    return read_machine(json.loads(text))


metadata = MetaData()

primaries = Table(
    "primaries",
    metadata,
    Column("uuid", String(36), primary_key=True),
    Column("name", String(63), nullable=False),
    Column("name_key", String(63), nullable=False, unique=True),  # lower case
    Column("state", String(32), nullable=False),
    Column("schedule_minutes", Integer, nullable=False),
    Column("capture_minutes", Integer, nullable=False),
    Column("enrolled_at", UtcTime, nullable=False),
    Column("last_seen", UtcTime),
    Column("agent_boot_id", String(64), nullable=False, default=""),
    Column("agent_role", String(16), nullable=False, default=""),
    Column("agent_version", String(64), nullable=False, default=""),
    Column("machine", MachineFacts),
    Column("newest_version", String(32), nullable=False, default=""),
    Column("notes", JSON, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("primary", String(36)),
    Column("state", String(16), nullable=False),
    Column("who", String(128), nullable=False),
    Column("created_at", UtcTime, nullable=False, index=True),
    Column("started_at", UtcTime),
    Column("finished_at", UtcTime, index=True),
    Column("progress", JSON, nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("notes", JSON, nullable=False),
    Column("result", JSON, nullable=False),
    Column("error", JSON(none_as_null=True)),
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Index("ix_jobs_primary_kind", "primary", "kind", "state", "finished_at"),
    Index("ix_jobs_state_finished_at", "state", "finished_at"),
)

journal = Table(
    "journal",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", UtcTime, nullable=False, index=True),
    Column("primary", String(36)),
    Column("event", String(64), nullable=False),
    Column("who", String(128), nullable=False),
    Column("why", String, nullable=False),
    Column("from_state", String(32), nullable=False),
    Column("to_state", String(32), nullable=False),
    Column("details", JSON, nullable=False),
    Index("ix_journal_primary_at", "primary", "at"),
    Index("ix_journal_event_at", "event", "at"),
    Index("ix_journal_who_at", "who", "at"),
)

invites = Table(
    "invites",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("name", String(63), nullable=False),
    Column("primary", String(36), nullable=False),  # empty: a new primary
    Column("expires_at", UtcTime, nullable=False),
    Column("used_at", UtcTime),
)

certificates = Table(
    "certificates",
    metadata,
    Column("serial", String(64), primary_key=True),
    Column("primary", String(36), nullable=False, index=True),
    Column("issued_at", UtcTime, nullable=False),
    Column("revoked_at", UtcTime),
)

targets = Table(
    "targets",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("secret_hash", String(64), nullable=False, unique=True),
    Column("code_hash", String(64), nullable=False, index=True),
    Column("machine", JSON, nullable=False),
    Column("first_seen", UtcTime, nullable=False),
    Column("seen", UtcTime, nullable=False),
    Column("state", String(16), nullable=False),
    Column("recovery", String(128), nullable=False),
    Column("report", JSON, nullable=False),
)

people = Table(
    "people",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("password_hash", String(255), nullable=False),
    Column("role", String(16), nullable=False),
    Column("totp_secret", String(64), nullable=False, default=""),  # empty: no second factor
    Column("totp_offered", String(64), nullable=False, default=""),  # shown, not yet confirmed
    Column("totp_step", Integer, nullable=False, default=0),  # of the last code that was used
)

recovery_codes = Table(
    "recovery_codes",
    metadata,
    Column("code_hash", String(64), primary_key=True),
    Column("name", String(63), nullable=False, index=True),
)

rehearsals = Table(
    "rehearsals",
    metadata,
    Column("id", String(32), primary_key=True),  # its job's
    Column("primary", String(36), nullable=False, index=True),
    Column("version", String(32), nullable=False),
    Column("who", String(128), nullable=False),
    Column("began_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Column("outcome", String(16), nullable=False),
    Column("answered_s", Float),
    Column("ports", JSON, nullable=False),
    Column("silent", JSON, nullable=False),
    Column("error", JSON(none_as_null=True)),
    Column("picture", Boolean, nullable=False),
    Column("evidence", JSON(none_as_null=True)),
)

start_plan = Table(
    "start_plan",
    metadata,
    Column("primary", String(36), primary_key=True),
    Column("place", Integer, nullable=False),
    Column("begins", String(16), nullable=False),
    Column("delay_s", Integer, nullable=False),
    Column("limit_s", Integer, nullable=False),
    Column("if_fails", String(16), nullable=False),
    Column("memory_mib", Integer, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("name", String(63), nullable=False),
    Column("expires_at", UtcTime),  # empty: the token of the command line
    Column("started_at", UtcTime),
    Column("seen_at", UtcTime),
    Column("address", String(45), nullable=False, default=""),
)

notes = Table(
    "notes",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", JSON, nullable=False),
)

receivers = Table(
    "receivers",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(63), nullable=False, unique=True),
    Column("address", String, nullable=False),  # a secret
    Column("shown", String(255), nullable=False),  # of the address, what is no secret
    Column("kinds", JSON, nullable=False),
    Column("language", String(8), nullable=False),
    Column("summary", String(16), nullable=False),
    Column("summed_up_at", UtcTime, nullable=False),
    Column("sent_at", UtcTime),
    Column("failing_since", UtcTime),
    Column("problem", String, nullable=False, default=""),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("receiver", String(16), nullable=False),
    Column("title", String, nullable=False),
    Column("body", String, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("written_at", UtcTime, nullable=False),
    Column("tries", Integer, nullable=False, default=0),
    Column("next_at", UtcTime, nullable=False),
    Column("papers", JSON, nullable=False, server_default="{}"),
)

troubles = Table(
    "troubles",
    metadata,
    Column("key", String(128), primary_key=True),
    Column("what", String, nullable=False),
    Column("about", String(64), nullable=False),
    Column("name", String(63), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("since", UtcTime, nullable=False),
    Column("told_at", UtcTime),
    Column("gone_at", UtcTime),
)

space = Table(
    "space",
    metadata,
    Column("at", UtcTime, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("free", BigInteger, nullable=False),
)
