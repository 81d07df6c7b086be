"""What goes with a job's end, in the same transaction: its audio is counted, and whoever wanted to be told will be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy import bindparam

from cosygate.adapters.records_sql.schema_guard import deliveries, usage
from cosygate.model.job import JobState
from cosygate.model.principal import tenant_of
from cosygate.model.webhook import host_of

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


class Ended(Protocol):
    """What is to be known of the job: a row that RETURNING told, or the job itself."""

    @property
    def id(self) -> str: ...
    @property
    def owner(self) -> str: ...
    @property
    def callback_url(self) -> str | None: ...


def day_of(now: float) -> str:
    """The day (UTC) that `now` (seconds since the epoch) counts to: YYYY-MM-DD."""
    return datetime.fromtimestamp(now, UTC).date().isoformat()


def ended(
    connection: sa.Connection, job: Ended, state: JobState, now: float, *, door: str = "file", seconds: float = 0.0
) -> None:
    """The job has just become `state`. `seconds` of audio are its tenant's use when it succeeded. Last in its
    transaction: all that end jobs of one tenant write the same row."""
    if state is JobState.SUCCEEDED:
        _count(connection, tenant_of(job.owner), day_of(now), door, seconds)
    if job.callback_url is not None:
        connection.execute(_ANNOUNCE, _delivery(job, job.callback_url, state, now))


def _count(connection: sa.Connection, tenant: str, day: str, door: str, seconds: float) -> None:
    which = {"whose": tenant, "that_day": day, "by_door": door}
    if connection.execute(_ADD, which | {"more": seconds}).rowcount == 0:
        first = {"tenant": tenant, "day": day, "door": door, "seconds": seconds, "recordings": 1}
        connection.execute(_FIRST, first)


def _delivery(job: Ended, url: str, state: JobState, now: float) -> dict[str, Any]:
    """One a job, so the job's id makes it: a repeat of the transaction cannot announce twice."""
    return {
        "id": f"msg_{job.id}",
        "job_id": job.id,
        "owner": job.owner,
        "tenant": tenant_of(job.owner),
        "url": url,
        "host": host_of(url),
        "kind": f"task.{state.value}",
        "state": "pending",
        "attempt": 0,
        "due_at": now,
        "created_at": now,
    }
