"""How much waits in the queue, by tenant."""

from __future__ import annotations

import sqlalchemy as sa

from cosygate.adapters.records_sql.database import Database
from cosygate.adapters.records_sql.schema import is_state, jobs
from cosygate.model.job import JobState
from cosygate.ports.records import Depth, Waiting

# In the order of the index jobs_waiting, which has all of it: no row is read, nothing sorted.
_WAITING = (
    sa.select(jobs.c.tenant, sa.func.count(), sa.func.sum(jobs.c.cost_s), sa.func.min(jobs.c.created_at))
    .where(is_state(jobs, JobState.QUEUED))
    .group_by(jobs.c.tenant)
)


class SqlDepth:
    """ports/records.py, QueueDepth."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def waiting(self) -> Depth:
        rows = await self._database.read(lambda connection: connection.execute(_WAITING).all())
        return Depth(
            {tenant: Waiting(count, seconds) for tenant, count, seconds, _ in rows},
            min((oldest for *_, oldest in rows), default=None),
        )
