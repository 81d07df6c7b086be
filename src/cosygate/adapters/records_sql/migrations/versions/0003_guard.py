"""Tenants, costs and callbacks of jobs; turns, usage, quotas, keys, revocations, webhooks and switches.

Revision ID: 0003
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")  # compared by its bytes, as on SQLite


def _where(condition: str) -> dict[str, Any]:
    """A partial index, on both databases."""
    return {f"{dialect}_where": sa.text(condition) for dialect in ("sqlite", "postgresql")}


def upgrade() -> None:
    _jobs()
    _protection()
    _callers()
    _webhooks()


def _jobs() -> None:
    op.add_column("jobs", sa.Column("tenant", TEXT, server_default="", nullable=False))
    op.add_column("jobs", sa.Column("cost_s", sa.Double(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("callback_url", TEXT, nullable=True))
    op.add_column("jobs", sa.Column("span_id", TEXT, server_default="", nullable=False))
    op.add_column("live_sessions", sa.Column("span_id", TEXT, server_default="", nullable=False))
    jobs = sa.table("jobs", sa.column("owner", sa.Text), sa.column("tenant", sa.Text))
    connection = op.get_bind()
    # Roughly: 16 kHz mono. (What comes later is looked at when it is complete.)
    guess = "CASE WHEN size > 1382400000 THEN 43200.0 WHEN size < 8000 THEN 0.25 ELSE size / 32000.0 END"
    op.execute(f"UPDATE jobs SET cost_s = {guess} WHERE state IN ('queued', 'running')")  # noqa: S608 - no input in it
    for owner in connection.execute(sa.select(jobs.c.owner).distinct()).scalars().all():
        tenant = owner.partition("/")[0]
        connection.execute(sa.update(jobs).where(jobs.c.owner == owner).values(tenant=tenant))
    op.create_index(
        "jobs_of_tenant",
        "jobs",
        ["priority", "tenant", "created_at", "id"],
        **_where("state = 'queued' AND not_before IS NULL"),
    )
    op.drop_index("jobs_ready", "jobs")  # jobs are claimed by tenant from now on
    op.create_index("jobs_waiting", "jobs", ["tenant", "cost_s", "created_at"], **_where("state = 'queued'"))


def _protection() -> None:
    op.create_table(
        "turns",
        sa.Column("priority", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("debt_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("priority", "tenant"),
    )
    op.create_table(
        "usage",
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("day", TEXT, nullable=False),
        sa.Column("door", TEXT, nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("recordings", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "day", "door"),
    )
    op.create_index("usage_of_day", "usage", ["day"])
    op.create_table(
        "quotas",
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("day_s", sa.Double(), nullable=True),
        sa.Column("month_s", sa.Double(), nullable=True),
        sa.Column("live", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("tenant"),
    )
    op.create_table(
        "switches",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def _callers() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("hash", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("scopes", TEXT, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("used_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("api_keys_of_tenant", "api_keys", ["tenant", "id"])
    op.create_table(
        "revocations",
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.Column("before", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "value"),
    )
    op.create_index("revocations_expired", "revocations", ["expires_at"])


def _webhooks() -> None:
    op.create_table(
        "webhook_secrets",
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("secret", TEXT, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("previous", TEXT, nullable=True),
        sa.Column("previous_until", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("tenant"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("job_id", TEXT, nullable=False),
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("url", TEXT, nullable=False),
        sa.Column("host", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("begun_at", sa.Double(), nullable=True),
        sa.Column("tried_at", sa.Double(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_deliveries_job_id", "deliveries", ["job_id"])
    op.create_index("deliveries_due", "deliveries", ["due_at"], **_where("state = 'pending'"))
    op.create_index("deliveries_of_tenant", "deliveries", ["tenant", "due_at", "host"], **_where("state = 'pending'"))
    op.create_index(
        "deliveries_under_way", "deliveries", ["due_at"], **_where("state = 'pending' AND begun_at IS NOT NULL")
    )
    op.create_index("deliveries_dead", "deliveries", ["id"], **_where("state = 'dead'"))
    op.create_index("deliveries_dead_of_tenant", "deliveries", ["tenant", "id"], **_where("state = 'dead'"))
    op.create_index("deliveries_of_owner", "deliveries", ["owner", "id"])
    op.create_index("deliveries_of_owner_by_state", "deliveries", ["owner", "state", "id"])
    op.create_table(
        "webhooks_gone",
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("url", TEXT, nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "url"),
    )
