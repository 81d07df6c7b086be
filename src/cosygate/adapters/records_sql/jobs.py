"""Jobs as their owners and retention see them, as transactions."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import bindparam

from cosygate.adapters.records_sql.database import Database
from cosygate.adapters.records_sql.endings import ended
from cosygate.adapters.records_sql.schema import (
    events,
    finished,
    is_state,
    job_columns,
    jobs,
    live_sessions,
    to_job,
    uploads,
)
from cosygate.adapters.records_sql.schema_guard import deliveries, pending
from cosygate.model.job import TERMINAL, Job, JobState
from cosygate.model.upload import UploadState

_GET = sa.select(*job_columns).where(jobs.c.id == bindparam("job"))
_PAGE = (
    sa.select(*job_columns)
    .where(jobs.c.owner == bindparam("mine"), jobs.c.id < bindparam("before"))
    .order_by(jobs.c.id.desc())
    .limit(bindparam("most"))
)
_PAGE_OF_STATE = _PAGE.where(jobs.c.state == bindparam("wanted"))
_AFTER_ALL = "\U0010ffff"  # sorts behind every id
_CANCEL = (
    sa.update(jobs)
    .where(jobs.c.id == bindparam("job"), jobs.c.owner == bindparam("mine"))
    .where(is_state(jobs, JobState.QUEUED, JobState.RUNNING))
    .values(state=JobState.CANCELLED.value, finished_at=bindparam("now"), claimant=None, not_before=None)
    .returning(*job_columns)
)
_TELL = sa.insert(events)
# Events and outbox rows go with it (ON DELETE CASCADE).
_DELETE = (
    sa.delete(jobs).where(jobs.c.id == bindparam("job"), is_state(jobs, *sorted(TERMINAL))).returning(*job_columns)
)
_FREE_SESSION = sa.update(uploads).where(uploads.c.id == bindparam("upload")).values(state=UploadState.ABORTED.value)
_DELETE_UPLOAD = sa.delete(uploads).where(uploads.c.id == bindparam("upload"))
# Of a job that was spoken live, the session has the same id. Its finals go with it (ON DELETE CASCADE).
_DELETE_LIVE = sa.delete(live_sessions).where(live_sessions.c.id == bindparam("job"))
_FINISHED_BEFORE = (
    sa.select(*job_columns)
    .where(finished, jobs.c.finished_at < bindparam("cutoff"))
    # Whoever is still to be told of its end can be (for as long as the schedule of webhooks goes on).
    .where(~sa.exists().where(deliveries.c.job_id == jobs.c.id, pending))
    .order_by(jobs.c.finished_at)
    .limit(bindparam("most"))
)


class SqlJobs:
    """ports/records.py, JobRecords."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, owner: str | None, job_id: str) -> Job | None:
        return await self._database.read(lambda connection: _get(connection, owner, job_id))

    async def page(self, owner: str, *, state: JobState | None, before: str | None, limit: int) -> list[Job]:
        """Job ids sort by time of creation (kit/clock.py, time_ordered_id): newest first is highest id first."""
        where = {"mine": owner, "before": _AFTER_ALL if before is None else before, "most": limit}
        if state is None:
            return await self._list(_PAGE, where)
        return await self._list(_PAGE_OF_STATE, where | {"wanted": state.value})

    async def cancel(self, owner: str, job_id: str, now: float) -> Job | None:
        def run(connection: sa.Connection) -> Job | None:
            row = connection.execute(_CANCEL, {"job": job_id, "mine": owner, "now": now}).one_or_none()
            if row is None:
                return _get(connection, owner, job_id)
            connection.execute(_TELL, {"job_id": job_id, "kind": "cancelled", "data": {}})
            connection.execute(_FREE_SESSION, {"upload": row.upload_id})
            ended(connection, row, JobState.CANCELLED, now)
            return to_job(row)

        return await self._database.write(run)

    async def delete(self, job_id: str) -> Job | None:
        def run(connection: sa.Connection) -> Job | None:
            row = connection.execute(_DELETE, {"job": job_id}).one_or_none()
            if row is None:
                return None
            connection.execute(_DELETE_UPLOAD, {"upload": row.upload_id})
            connection.execute(_DELETE_LIVE, {"job": job_id})
            return to_job(row)

        return await self._database.write(run)

    async def finished_before(self, cutoff: float, limit: int) -> list[Job]:
        return await self._list(_FINISHED_BEFORE, {"cutoff": cutoff, "most": limit})

    async def _list(self, query: sa.Select[tuple[object, ...]], where: dict[str, object]) -> list[Job]:
        return await self._database.read(lambda connection: [to_job(row) for row in connection.execute(query, where)])


def _get(connection: sa.Connection, owner: str | None, job_id: str) -> Job | None:
    row = connection.execute(_GET, {"job": job_id}).one_or_none()
    return to_job(row) if row and owner in (None, row.owner) else None
