"""A rehearsal tells all that was tried."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("rehearsals", sa.Column("evidence", sa.JSON(none_as_null=True), nullable=True))
