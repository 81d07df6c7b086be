"""A job's story, the hints that wait to be sent, and the database's health, as transactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from cosygate.adapters.records_sql.database import Database
from cosygate.adapters.records_sql.leases import HELD, of, untold
from cosygate.adapters.records_sql.locks import writable
from cosygate.adapters.records_sql.schema import events, is_state, jobs, outbox
from cosygate.model.job import Claim, JobEvent, JobState
from cosygate.ports.records import Hint

_CHECK_S = 1.0  # how long a health check waits for the write lock

# An update even when there is no percent: it locks the row against another worker's claim.
_ADVANCE = (
    sa.update(jobs).where(HELD).values(percent=sa.func.coalesce(bindparam("reached", type_=sa.Integer), jobs.c.percent))
)
_FORGET_PROGRESS = sa.delete(events).where(events.c.job_id == bindparam("job"), events.c.kind == "progress")
_TELL = sa.insert(events)
_READ = (
    sa.select(events.c.seq, events.c.kind, events.c.data)
    .where(events.c.job_id == bindparam("job"), events.c.seq > bindparam("after"))
    .order_by(events.c.seq)
    .limit(bindparam("most"))
)
# Two steps: in one, Postgres may look for the oldest anew while it deletes, and take more than it should.
_OLDEST = (
    sa.select(outbox.c.seq, outbox.c.job_id, jobs.c.priority)
    .join_from(outbox, jobs, outbox.c.job_id == jobs.c.id)
    .order_by(outbox.c.seq)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True, of=outbox)
)
_TAKE = sa.delete(outbox).where(outbox.c.seq == bindparam("taken"))
# One pass over an index and no sorting, which GROUP BY would do.
_COUNTS = sa.select(
    *(sa.func.count().filter(is_state(jobs, state)).label(state.value) for state in JobState)
).select_from(jobs)


class SqlEvents:
    """ports/records.py, Events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(
        self,
        claim: Claim,
        new: Sequence[tuple[str, dict[str, Any]]],
        percent: int | None,
        *,
        after: int | None = None,
    ) -> bool:
        """A percent becomes a `progress` event after the others. Of a job's progress events only the last is kept:
        it alone says something, and a long job would leave thousands."""
        segments = [(kind, data) for kind, data in new if kind != "progress"]
        told = [data["percent"] for kind, data in new if kind == "progress"]
        percent = percent if percent is not None or not told else told[-1]
        mine = of(claim.job_id, claim.fence)

        def run(connection: sa.Connection) -> bool:
            if connection.execute(_ADVANCE, mine | {"reached": percent}).rowcount == 0:
                return False
            rows = untold(connection, claim.job_id, segments, after)
            if percent is not None:
                connection.execute(_FORGET_PROGRESS, {"job": claim.job_id})
                rows.append({"job_id": claim.job_id, "kind": "progress", "data": {"percent": percent}})
            if rows:
                connection.execute(_TELL, rows)
            return True

        return await self._database.write(run)

    async def read(self, job_id: str, after: int, limit: int) -> list[JobEvent]:
        where = {"job": job_id, "after": after, "most": limit}
        return await self._database.read(
            lambda connection: [JobEvent(*row) for row in connection.execute(_READ, where)]
        )


class SqlOutbox:
    """ports/records.py, Outbox."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, limit: int) -> list[Hint]:
        def run(connection: sa.Connection) -> list[Hint]:
            oldest = connection.execute(_OLDEST, {"most": limit}).all()
            if oldest:
                connection.execute(_TAKE, [{"taken": row.seq} for row in oldest])
            return [Hint(row.job_id, row.priority) for row in oldest]

        return await self._database.write(run)


class SqlHealth:
    """ports/records.py, RecordsHealth."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def check(self) -> None:
        await self._database.write(writable, within_s=_CHECK_S)

    async def counts(self) -> dict[str, int]:
        return await self._database.read(lambda connection: connection.execute(_COUNTS).one()._asdict())
