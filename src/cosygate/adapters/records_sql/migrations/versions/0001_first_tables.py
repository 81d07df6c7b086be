"""Uploads, jobs, events and the outbox.

Revision ID: 0001
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")  # compared by its bytes, as on SQLite


def _where(condition: str) -> dict[str, Any]:
    """A partial index, on both databases."""
    return {f"{dialect}_where": sa.text(condition) for dialect in ("sqlite", "postgresql")}


def upgrade() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("session_id", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("job_id", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "uploads_bound", "uploads", ["owner", "session_id"], unique=True, **_where("state IN ('open', 'complete')")
    )
    op.create_index("uploads_closed", "uploads", ["expires_at"], **_where("state IN ('aborted', 'expired')"))
    op.create_index("uploads_open", "uploads", ["owner"], **_where("state = 'open'"))
    op.create_index("uploads_stale", "uploads", ["expires_at"], **_where("state = 'open'"))
    op.create_table(
        "jobs",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("upload_id", TEXT, nullable=False),
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("session_id", TEXT, nullable=False),
        sa.Column("options", TEXT, nullable=False),
        sa.Column("container", TEXT, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("trace_id", TEXT, nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("beat", sa.Integer(), nullable=False),
        sa.Column("claimant", TEXT, nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lost", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Double(), nullable=True),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("result_fence", sa.Integer(), nullable=True),
        sa.Column("error_code", TEXT, nullable=True),
        sa.Column("error_detail", TEXT, nullable=True),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["upload_id"],
            ["uploads.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("upload_id"),
    )
    op.create_index("jobs_delayed", "jobs", ["not_before"], **_where("state = 'queued' AND not_before IS NOT NULL"))
    op.create_index("jobs_finished", "jobs", ["finished_at"], **_where("finished_at IS NOT NULL"))
    op.create_index("jobs_of_owner", "jobs", ["owner", "id"])
    op.create_index("jobs_of_owner_by_state", "jobs", ["owner", "state", "id"])
    op.create_index(
        "jobs_ready", "jobs", ["priority", "created_at", "id"], **_where("state = 'queued' AND not_before IS NULL")
    )
    op.create_index("jobs_running", "jobs", ["claimant"], **_where("state = 'running'"))
    op.create_table(
        "events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job_id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("events_of_job", "events", ["job_id", "seq"])
    op.create_table(
        "outbox",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job_id", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_job_id", "outbox", ["job_id"])
