"""How much waits in the queue, by tenant, and what has left it."""

from __future__ import annotations

import sqlalchemy as sa

from cosygate.adapters.records_sql.database import Database
from cosygate.adapters.records_sql.schema import finished, is_state, jobs
from cosygate.model.job import JobState
from cosygate.ports.records import Depth, Ended, Waiting

# In the order of the index jobs_waiting, which has all of it: no row is read, nothing sorted.
_WAITING = (
    sa.select(jobs.c.tenant, sa.func.count(), sa.func.sum(jobs.c.cost_s), sa.func.min(jobs.c.created_at))
    .where(is_state(jobs, JobState.QUEUED))
    .group_by(jobs.c.tenant)
)
_ENDED = (
    sa.select(jobs.c.finished_at, sa.case((jobs.c.started_at.is_not(None), jobs.c.cost_s), else_=0.0))
    .where(finished, jobs.c.finished_at >= sa.bindparam("since", type_=sa.Double))
    .order_by(jobs.c.finished_at.desc())
    .limit(sa.bindparam("most", type_=sa.Integer))
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

    async def ended(self, since: float, most: int) -> list[Ended]:
        where = {"since": since, "most": most}
        return await self._database.read(lambda connection: [Ended(*row) for row in connection.execute(_ENDED, where)])
