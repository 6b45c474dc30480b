"""Alembic runs this inside the transaction that :mod:`..database` opened."""

from __future__ import annotations

from alembic import context

from notfallserver.server.records.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,  # the caller's transaction covers all steps
)
context.run_migrations()
