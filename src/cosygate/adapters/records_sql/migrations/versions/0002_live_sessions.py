"""Live sessions, their finals, and the one-time tickets that have been used.

Revision ID: 0002
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")  # compared by its bytes, as on SQLite


def _where(condition: str) -> dict[str, Any]:
    """A partial index, on both databases."""
    return {f"{dialect}_where": sa.text(condition) for dialect in ("sqlite", "postgresql")}


def upgrade() -> None:
    op.create_table(
        "live_sessions",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("token_hash", TEXT, nullable=False),
        sa.Column("format", TEXT, nullable=False),
        sa.Column("rate", sa.Integer(), nullable=False),
        sa.Column("options", TEXT, nullable=False),
        sa.Column("trace_id", TEXT, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("holder", TEXT, nullable=False),
        sa.Column("beat", sa.Integer(), nullable=False),
        sa.Column("safe", sa.BigInteger(), nullable=False),
        sa.Column("restart", sa.BigInteger(), nullable=False),
        sa.Column("kept", sa.BigInteger(), nullable=False),
        sa.Column("finals", sa.Integer(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("live_open_of_owner", "live_sessions", ["owner"], **_where("state = 'open'"))
    op.create_index("live_open_held", "live_sessions", ["holder"], **_where("state = 'open'"))
    op.create_table(
        "live_finals",
        sa.Column("session_id", TEXT, nullable=False),
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["session_id"], ["live_sessions.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("session_id", "id"),
    )
    op.create_table(
        "spent_tickets",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("spent_tickets_expired", "spent_tickets", ["expires_at"])
