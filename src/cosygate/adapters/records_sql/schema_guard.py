"""More tables of the same schema (schema.py): what protects the service and tells others about it."""

from __future__ import annotations

import sqlalchemy as sa

from cosygate.adapters.records_sql.schema import TEXT, metadata

# Turns between tenants: who was served while others waited, and owes for it (model/turns.py). Who owes nothing has no
# row.
turns = sa.Table(
    "turns",
    metadata,
    sa.Column("priority", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("tenant", TEXT, primary_key=True),
    sa.Column("debt_s", sa.Double, nullable=False),  # in seconds of audio
)
usage = sa.Table(
    "usage",
    metadata,
    sa.Column("tenant", TEXT, primary_key=True),
    sa.Column("day", TEXT, primary_key=True),  # YYYY-MM-DD, UTC
    sa.Column("door", TEXT, primary_key=True),  # file or live
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("recordings", sa.BigInteger, nullable=False),
)
quotas = sa.Table(
    "quotas",
    metadata,
    sa.Column("tenant", TEXT, primary_key=True),
    sa.Column("day_s", sa.Double),  # None: the setting's
    sa.Column("month_s", sa.Double),
    sa.Column("live", sa.Integer),
)
api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", TEXT, primary_key=True),
    sa.Column("hash", TEXT, nullable=False),  # SHA-256 (hex) of the whole key
    sa.Column("name", TEXT, nullable=False),
    sa.Column("tenant", TEXT, nullable=False),
    sa.Column("subject", TEXT, nullable=False),
    sa.Column("scopes", TEXT, nullable=False),  # separated by spaces
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double),
    sa.Column("used_at", sa.Double),
    sa.Column("revoked_at", sa.Double),
)
revocations = sa.Table(
    "revocations",
    metadata,
    sa.Column("kind", TEXT, primary_key=True),  # credential (Principal.credential), or owner (tenant/sub)
    sa.Column("value", TEXT, primary_key=True),
    sa.Column("before", sa.Double, nullable=False),  # what that owner was issued before is void; of a credential, all
    sa.Column("expires_at", sa.Double, nullable=False),  # nothing that it voids can live longer
)
webhook_secrets = sa.Table(
    "webhook_secrets",
    metadata,
    sa.Column("tenant", TEXT, primary_key=True),
    sa.Column("secret", TEXT, nullable=False),  # whsec_…
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("previous", TEXT),  # signs beside the new one until `previous_until`
    sa.Column("previous_until", sa.Double),
)
deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", TEXT, primary_key=True),  # msg_…, the webhook-id of every try
    sa.Column("job_id", TEXT, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("owner", TEXT, nullable=False),
    sa.Column("tenant", TEXT, nullable=False),
    sa.Column("url", TEXT, nullable=False),
    sa.Column("host", TEXT, nullable=False),  # of the url, with its port
    sa.Column("kind", TEXT, nullable=False),  # task.succeeded, task.failed, task.cancelled
    sa.Column("state", TEXT, nullable=False),  # pending, delivered, dead
    sa.Column("attempt", sa.Integer, nullable=False),  # tries so far
    sa.Column("due_at", sa.Double, nullable=False),  # of the next try; while one runs, when it counts as lost
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("begun_at", sa.Double),  # set while a try runs
    sa.Column("tried_at", sa.Double),
    sa.Column("status", sa.Integer),  # the receiver's answer to the last try
    sa.Column("error", TEXT),  # a stable code, of the last try
)
webhooks_gone = sa.Table(
    "webhooks_gone",
    metadata,
    sa.Column("tenant", TEXT, primary_key=True),
    sa.Column("url", TEXT, primary_key=True),  # answered 410: nothing more is sent there
    sa.Column("since", sa.Double, nullable=False),
)
switches = sa.Table(
    "switches",
    metadata,
    sa.Column("name", TEXT, primary_key=True),  # drain
    sa.Column("value", TEXT, nullable=False),
    sa.Column("since", sa.Double, nullable=False),
)
# What users have corrected: each version as what differs from the one before it (model/editing.py). Version 1, the
# recogniser's, has no row.
transcript_versions = sa.Table(
    "transcript_versions",
    metadata,
    sa.Column("job_id", TEXT, sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("author", TEXT),  # subject of who saved it
    sa.Column("restores", sa.Integer),  # the version whose state this is
    sa.Column("size", sa.BigInteger, nullable=False),  # bytes of the changes
    sa.Column("changes", sa.JSON, nullable=False),
)

# One row: the oldest revision whose code still works with this schema (migrate.py). Each step that adds says so again.
schema_compat = sa.Table("schema_compat", metadata, sa.Column("oldest", TEXT, primary_key=True))

_PENDING = sa.literal_column("'pending'", sa.Text)
_DEAD = sa.literal_column("'dead'", sa.Text)
pending = deliveries.c.state == _PENDING
dead = deliveries.c.state == _DEAD
under_way = pending & deliveries.c.begun_at.is_not(None)
sa.Index("deliveries_due", deliveries.c.due_at, sqlite_where=pending, postgresql_where=pending)
sa.Index(
    "deliveries_of_tenant",
    deliveries.c.tenant,
    deliveries.c.due_at,
    deliveries.c.host,
    sqlite_where=pending,
    postgresql_where=pending,
)
sa.Index("deliveries_under_way", deliveries.c.due_at, sqlite_where=under_way, postgresql_where=under_way)
sa.Index("deliveries_dead", deliveries.c.id, sqlite_where=dead, postgresql_where=dead)
sa.Index("deliveries_dead_of_tenant", deliveries.c.tenant, deliveries.c.id, sqlite_where=dead, postgresql_where=dead)
sa.Index("deliveries_of_owner", deliveries.c.owner, deliveries.c.id)
sa.Index("deliveries_of_owner_by_state", deliveries.c.owner, deliveries.c.state, deliveries.c.id)
sa.Index("usage_of_day", usage.c.day)
sa.Index("api_keys_of_tenant", api_keys.c.tenant, api_keys.c.id)
sa.Index("revocations_expired", revocations.c.expires_at)
