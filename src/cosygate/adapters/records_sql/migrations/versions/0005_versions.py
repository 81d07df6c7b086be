"""Versions of transcripts that were edited.

Revision ID: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")  # compared by its bytes, as on SQLite


def upgrade() -> None:
    op.create_table(
        "transcript_versions",
        sa.Column("job_id", TEXT, sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("author", TEXT),
        sa.Column("restores", sa.Integer),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("changes", sa.JSON, nullable=False),
    )
    # A table more, whose rows go with their jobs: statements of 0003 do not notice.
    op.execute("UPDATE schema_compat SET oldest = '0003'")
