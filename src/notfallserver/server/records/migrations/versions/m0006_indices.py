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
    # Whether a failed job was made good is asked for each of them at every look at the home page.
    op.drop_index("ix_jobs_primary", "jobs")
    op.drop_index("ix_jobs_state", "jobs")
    made_good = ["primary", "kind", "state", "finished_at"]
    op.create_index("ix_jobs_primary_kind", "jobs", made_good, unique=False)
    op.create_index("ix_jobs_state_finished_at", "jobs", ["state", "finished_at"], unique=False)
