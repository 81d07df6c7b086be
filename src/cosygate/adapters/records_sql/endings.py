"""What goes with a job's end, in the same transaction: its audio is counted, and whoever wanted to be told will be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from cosygate.adapters.records_sql.schema import jobs
from cosygate.adapters.records_sql.schema_guard import deliveries, usage
from cosygate.model.job import JobState
from cosygate.model.webhook import host_of

_ENDED = sa.select(jobs.c.id, jobs.c.owner, jobs.c.tenant, jobs.c.callback_url).where(jobs.c.id == bindparam("job"))
_THIS_DAY = (
    (usage.c.tenant == bindparam("whose"))
    & (usage.c.day == bindparam("that_day"))
    & (usage.c.door == bindparam("by_door"))
)
_ADD = (
    sa.update(usage)
    .where(_THIS_DAY)
    .values(seconds=usage.c.seconds + bindparam("more"), recordings=usage.c.recordings + 1)
)
_FIRST = sa.insert(usage)
_ANNOUNCE = sa.insert(deliveries)


def day_of(now: float) -> str:
    """The day (UTC) that `now` (seconds since the epoch) counts to: YYYY-MM-DD."""
    return datetime.fromtimestamp(now, UTC).date().isoformat()


def ended(
    connection: sa.Connection, job_id: str, state: JobState, now: float, *, door: str = "file", seconds: float = 0.0
) -> None:
    """The job has just become `state`. `seconds` of audio are its tenant's use when it succeeded."""
    row = connection.execute(_ENDED, {"job": job_id}).one()
    if state is JobState.SUCCEEDED:
        _count(connection, row.tenant, day_of(now), door, seconds)
    if row.callback_url is not None:
        connection.execute(_ANNOUNCE, _delivery(row, state, now))


def _count(connection: sa.Connection, tenant: str, day: str, door: str, seconds: float) -> None:
    which = {"whose": tenant, "that_day": day, "by_door": door}
    if connection.execute(_ADD, which | {"more": seconds}).rowcount == 0:
        first = {"tenant": tenant, "day": day, "door": door, "seconds": seconds, "recordings": 1}
        connection.execute(_FIRST, first)


def _delivery(row: Any, state: JobState, now: float) -> dict[str, Any]:
    """One a job, so the job's id makes it: a repeat of the transaction cannot announce twice."""
    return {
        "id": f"msg_{row.id}",
        "job_id": row.id,
        "owner": row.owner,
        "tenant": row.tenant,
        "url": row.callback_url,
        "host": host_of(row.callback_url),
        "kind": f"task.{state.value}",
        "state": "pending",
        "attempt": 0,
        "due_at": now,
        "created_at": now,
    }
