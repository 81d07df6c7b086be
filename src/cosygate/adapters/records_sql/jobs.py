"""Jobs as their owners and retention see them, as transactions."""

from __future__ import annotations

import sqlalchemy as sa

from cosygate.adapters.records_sql.schema import events, finished, is_state, job_columns, jobs, to_job, uploads
from cosygate.adapters.records_sql.sqlite import SqliteDatabase
from cosygate.model.job import TERMINAL, Job, JobState


def _get(connection: sa.Connection, job_id: str, owner: str | None) -> Job | None:
    query = sa.select(*job_columns).where(jobs.c.id == job_id)
    if owner is not None:
        query = query.where(jobs.c.owner == owner)
    row = connection.execute(query).one_or_none()
    return to_job(row) if row else None


class SqlJobs:
    """ports/records.py, JobRecords."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def get(self, owner: str | None, job_id: str) -> Job | None:
        return await self._database.read(lambda connection: _get(connection, job_id, owner))

    async def page(self, owner: str, *, state: JobState | None, before: str | None, limit: int) -> list[Job]:
        """Job ids sort by time of creation (kit/clock.py, time_ordered_id): newest first is highest id first."""
        query = sa.select(*job_columns).where(jobs.c.owner == owner)
        if state is not None:
            query = query.where(jobs.c.state == state.value)
        if before is not None:
            query = query.where(jobs.c.id < before)
        query = query.order_by(jobs.c.id.desc()).limit(limit)
        return await self._database.read(lambda connection: [to_job(row) for row in connection.execute(query)])

    async def cancel(self, owner: str, job_id: str, now: float) -> Job | None:
        def run(connection: sa.Connection) -> Job | None:
            cancel = (
                sa.update(jobs)
                .where(jobs.c.id == job_id, jobs.c.owner == owner, is_state(jobs, JobState.QUEUED, JobState.RUNNING))
                .values(state=JobState.CANCELLED.value, finished_at=now, claimant=None, not_before=None)
                .returning(*job_columns)
            )
            row = connection.execute(cancel).one_or_none()
            if row is None:
                return _get(connection, job_id, owner)
            connection.execute(sa.insert(events).values(job_id=job_id, kind="cancelled", data={}))
            return to_job(row)

        return await self._database.write(run)

    async def delete(self, job_id: str) -> Job | None:
        def run(connection: sa.Connection) -> Job | None:
            # Events and outbox rows go with it (ON DELETE CASCADE).
            erase = sa.delete(jobs).where(jobs.c.id == job_id, is_state(jobs, *sorted(TERMINAL)))
            row = connection.execute(erase.returning(*job_columns)).one_or_none()
            if row is None:
                return None
            connection.execute(sa.delete(uploads).where(uploads.c.id == row.upload_id))
            return to_job(row)

        return await self._database.write(run)

    async def finished_before(self, cutoff: float, limit: int) -> list[Job]:
        old = sa.select(*job_columns).where(finished, jobs.c.finished_at < cutoff)
        query = old.order_by(jobs.c.finished_at).limit(limit)
        return await self._database.read(lambda connection: [to_job(row) for row in connection.execute(query)])
