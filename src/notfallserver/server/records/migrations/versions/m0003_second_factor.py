"""People may have a second factor; a session says since when and from where; notes of the
server itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, length in (("totp_secret", 64), ("totp_offered", 64)):
        op.add_column(
            "people", sa.Column(name, sa.String(length=length), nullable=False, server_default="")
        )
    op.add_column(
        "people", sa.Column("totp_step", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column("sessions", sa.Column("started_at", sa.String(length=32), nullable=True))
    op.add_column("sessions", sa.Column("seen_at", sa.String(length=32), nullable=True))
    op.add_column(
        "sessions", sa.Column("address", sa.String(length=45), nullable=False, server_default="")
    )
    op.create_table(
        "recovery_codes",
        sa.Column("code_hash", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.PrimaryKeyConstraint("code_hash"),
    )
    op.create_index("ix_recovery_codes_name", "recovery_codes", ["name"], unique=False)
    op.create_table(
        "notes",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
