"""Journal and jobs are found by what pages ask for, newest first, however many there are."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_journal_primary", "journal")
    op.create_index("ix_journal_at", "journal", ["at"], unique=False)
    for column in ("primary", "event", "who"):
        op.create_index(f"ix_journal_{column}_at", "journal", [column, "at"], unique=False)
    op.create_index("ix_jobs_finished_at", "jobs", ["finished_at"], unique=False)
