"""The tables, and the two column types they need. Migrations make them; this describes them.

Times are UTC, kept as ISO text with microseconds, so that they sort as text. Documents are JSON.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
)


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
    Column("machine", JSON(none_as_null=True)),
    Column("newest_version", String(32), nullable=False, default=""),
    Column("notes", JSON, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("primary", String(36), index=True),
    Column("state", String(16), nullable=False, index=True),
    Column("who", String(128), nullable=False),
    Column("created_at", UtcTime, nullable=False, index=True),
    Column("started_at", UtcTime),
    Column("finished_at", UtcTime),
    Column("progress", JSON, nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("notes", JSON, nullable=False),
    Column("result", JSON, nullable=False),
    Column("error", JSON(none_as_null=True)),
    Column("cancel_requested", Boolean, nullable=False, default=False),
)

journal = Table(
    "journal",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", UtcTime, nullable=False),
    Column("primary", String(36), index=True),
    Column("event", String(64), nullable=False),
    Column("who", String(128), nullable=False),
    Column("why", String, nullable=False),
    Column("from_state", String(32), nullable=False),
    Column("to_state", String(32), nullable=False),
    Column("details", JSON, nullable=False),
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
)

sessions = Table(
    "sessions",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("name", String(63), nullable=False),
    Column("expires_at", UtcTime),  # empty: the token of the command line
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

preferences = Table(
    "preferences",
    metadata,
    Column("key", String(63), primary_key=True),
    Column("value", JSON, nullable=False),
)
