"""The tables, their indexes, and how a row becomes a record. Changing one means adding a migration (a test compares).

Partial indexes hold only the rows that somebody searches for, so that claiming, reaping and expiring cost the same with
a million finished jobs. Statements say their conditions in literals too: SQLite finds a partial index by no parameter.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from cosygate.model.job import Job, JobState
from cosygate.model.live import LiveFormat, LiveSession, LiveState, SafeMark
from cosygate.model.upload import Upload, UploadState

metadata = sa.MetaData()

# Text is compared by its bytes, as SQLite does: ids, names and ranges of them sort the same on both databases.
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers rows only in a column called INTEGER

uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("id", TEXT, primary_key=True),
    sa.Column("owner", TEXT, nullable=False),
    sa.Column("session_id", TEXT, nullable=False),
    sa.Column("state", TEXT, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
    sa.Column("job_id", TEXT),
)
jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", TEXT, primary_key=True),
    sa.Column("upload_id", TEXT, sa.ForeignKey("uploads.id"), nullable=False, unique=True),
    sa.Column("owner", TEXT, nullable=False),
    sa.Column("session_id", TEXT, nullable=False),
    sa.Column("options", TEXT, nullable=False),
    sa.Column("container", TEXT, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("trace_id", TEXT, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("state", TEXT, nullable=False),
    sa.Column("fence", sa.Integer, nullable=False),  # number of the latest claim
    sa.Column("beat", sa.Integer, nullable=False),  # rises while the claim is alive
    sa.Column("claimant", TEXT),  # who holds the claim, while running
    sa.Column("attempt", sa.Integer, nullable=False),  # failures that the recording caused
    sa.Column("lost", sa.Integer, nullable=False),  # leases lost
    sa.Column("not_before", sa.Double),  # set while a requeued job waits out its delay
    sa.Column("percent", sa.Integer, nullable=False),
    sa.Column("started_at", sa.Double),
    sa.Column("finished_at", sa.Double),
    sa.Column("result_fence", sa.Integer),
    sa.Column("error_code", TEXT),
    sa.Column("error_detail", TEXT),
    # Last of the first: a long transcript then costs readers of the columns before nothing.
    sa.Column("result", sa.JSON(none_as_null=True)),
    # Came later. What is searched by them has an index, and those who read them read the result, too.
    sa.Column("tenant", TEXT, nullable=False, server_default=""),  # the owner's, for turns between tenants
    sa.Column("cost_s", sa.Double, nullable=False, server_default="0"),
    sa.Column("callback_url", TEXT),
    sa.Column("span_id", TEXT, nullable=False, server_default=""),
)
events = sa.Table(
    "events",
    metadata,
    sa.Column("seq", _SERIAL, primary_key=True),  # never reused: a Last-Event-ID stays meaningful
    sa.Column("job_id", TEXT, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    sa.Column("kind", TEXT, nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
    sqlite_autoincrement=True,
)
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("seq", _SERIAL, primary_key=True),
    sa.Column("job_id", TEXT, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, index=True),
    sqlite_autoincrement=True,
)
live_sessions = sa.Table(
    "live_sessions",
    metadata,
    sa.Column("id", TEXT, primary_key=True),  # also of the upload and the job that it becomes
    sa.Column("owner", TEXT, nullable=False),
    sa.Column("token_hash", TEXT, nullable=False),
    sa.Column("format", TEXT, nullable=False),
    sa.Column("rate", sa.Integer, nullable=False),
    sa.Column("options", TEXT, nullable=False),
    sa.Column("trace_id", TEXT, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("state", TEXT, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),  # number of the latest claim
    sa.Column("holder", TEXT, nullable=False),
    sa.Column("beat", sa.Integer, nullable=False),  # rises while the holder is alive
    sa.Column("safe", sa.BigInteger, nullable=False),  # these four: SafeMark
    sa.Column("restart", sa.BigInteger, nullable=False),
    sa.Column("kept", sa.BigInteger, nullable=False),
    sa.Column("finals", sa.Integer, nullable=False),
    sa.Column("finished_at", sa.Double),
    sa.Column("span_id", TEXT, nullable=False, server_default=""),
)
live_finals = sa.Table(
    "live_finals",
    metadata,
    sa.Column("session_id", TEXT, sa.ForeignKey("live_sessions.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),  # from 0, within the session
    sa.Column("data", sa.JSON, nullable=False),
)
spent_tickets = sa.Table(
    "spent_tickets",
    metadata,
    sa.Column("id", TEXT, primary_key=True),
    sa.Column("expires_at", sa.Double, nullable=False),
)


def is_state(table: sa.FromClause, *states: JobState | UploadState | LiveState) -> sa.ColumnElement[bool]:
    """`state = 'queued'` with the value written out, so that the partial indexes below are found."""
    literals = [sa.literal_column(f"'{state.value}'", sa.Text) for state in states]
    return table.c.state == literals[0] if len(literals) == 1 else table.c.state.in_(literals)


def _partial(name: str, *columns: sa.Column[Any], where: sa.ColumnElement[bool], unique: bool = False) -> None:
    sa.Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


bound = is_state(uploads, UploadState.OPEN, UploadState.COMPLETE)  # these hold their session_id
open_upload = is_state(uploads, UploadState.OPEN)
closed_upload = is_state(uploads, UploadState.ABORTED, UploadState.EXPIRED)
ready = is_state(jobs, JobState.QUEUED) & jobs.c.not_before.is_(None)
delayed = is_state(jobs, JobState.QUEUED) & jobs.c.not_before.is_not(None)
running = is_state(jobs, JobState.RUNNING)
finished = jobs.c.finished_at.is_not(None)
open_live = is_state(live_sessions, LiveState.OPEN)

_partial("uploads_bound", uploads.c.owner, uploads.c.session_id, where=bound, unique=True)
_partial("uploads_open", uploads.c.owner, where=open_upload)
_partial("uploads_stale", uploads.c.expires_at, where=open_upload)
_partial("uploads_closed", uploads.c.expires_at, where=closed_upload)
_partial("jobs_of_tenant", jobs.c.priority, jobs.c.tenant, jobs.c.created_at, jobs.c.id, where=ready)
_partial("jobs_waiting", jobs.c.tenant, jobs.c.cost_s, jobs.c.created_at, where=is_state(jobs, JobState.QUEUED))
_partial("jobs_delayed", jobs.c.not_before, where=delayed)
_partial("jobs_running", jobs.c.claimant, where=running)
_partial("jobs_finished", jobs.c.finished_at, where=finished)
sa.Index("jobs_of_owner", jobs.c.owner, jobs.c.id)
sa.Index("jobs_of_owner_by_state", jobs.c.owner, jobs.c.state, jobs.c.id)
sa.Index("events_of_job", events.c.job_id, events.c.seq)
_partial("live_open_of_owner", live_sessions.c.owner, where=open_live)
_partial("live_open_held", live_sessions.c.holder, where=open_live)
sa.Index("spent_tickets_expired", spent_tickets.c.expires_at)


upload_columns = tuple(uploads.c)
job_columns = tuple(jobs.c[name] for name in Job.__dataclass_fields__)
mark_columns = tuple(live_sessions.c[name] for name in SafeMark.__dataclass_fields__)
live_columns = (*(live_sessions.c[name] for name in LiveSession.__dataclass_fields__ if name != "mark"), *mark_columns)


def to_upload(row: sa.Row[Any]) -> Upload:
    """From a row of `upload_columns`."""
    fields = row._asdict()
    return Upload(**{**fields, "state": UploadState(fields["state"])})


def to_job(row: sa.Row[Any]) -> Job:
    """From a row of `job_columns`."""
    fields = row._asdict()
    return Job(**{**fields, "state": JobState(fields["state"])})


def to_live(row: sa.Row[Any]) -> LiveSession:
    """From a row of `live_columns`."""
    fields = row._asdict()
    mark = SafeMark(**{column.name: fields.pop(column.name) for column in mark_columns})
    typed = {"state": LiveState(fields["state"]), "format": LiveFormat(fields["format"])}
    return LiveSession(**{**fields, **typed, "mark": mark})
